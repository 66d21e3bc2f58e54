import {
  constants,
  createServer,
  type IncomingHttpHeaders,
  type ServerHttp2Session,
  type ServerHttp2Stream,
} from "node:http2";
import type { Socket } from "node:net";
import { createPieceCounter, joinPieces } from "./body-pieces.ts";
import { type ConnectionLimits, drawConnectionEnd, type ProtocolServer, type RequestListener } from "./connections.ts";
import { createOverheadLimit } from "./overhead.ts";
import type { UnauthenticatedConnections } from "./unauthenticated.ts";

export interface Http2Options {
  readonly limits: ConnectionLimits;
  readonly unauthenticated: UnauthenticatedConnections;
  readonly onRequest: RequestListener;
  /** Returns whether it serves the stream; otherwise the stream becomes a request. */
  readonly onStream?: ((stream: ServerHttp2Stream, headers: IncomingHttpHeaders) => boolean) | undefined;
}

/** Serves HTTP/2 on connections that the preface or ALPN has identified. */
export function createHttp2({
  limits,
  unauthenticated,
  onRequest,
  onStream = () => false,
}: Http2Options): ProtocolServer {
  const sessions = new Set<Tracked>();
  const server = createServer({
    settings: { maxConcurrentStreams: limits.maxConcurrentStreams, maxHeaderListSize: limits.maxHeaderBytes },
    maxSessionMemory: limits.maxSessionMegabytes,
  });
  // This server never listens: it turns streams into requests.
  const requests = createServer().on("request", (request, response) => {
    // The request has its own buffer in addition to its stream's.
    if (!request.stream.endAfterHeaders) joinPieces(request);
    onRequest(request, response);
  });
  server.on("stream", (stream, headers, ...rest) => {
    unauthenticated.startCall(stream.session ?? stream, () => {
      if (stream.closed || stream.destroyed) return;
      if (!onStream(stream, headers)) requests.emit("stream", stream, headers, ...rest);
    });
  });
  const checkMs = Math.min(
    limits.headersTimeoutMs,
    limits.sessionIdleTimeoutMs,
    limits.silenceTimeoutMs / 4,
    limits.maxConnectionAgeMs || 5_000,
    5_000,
  );
  const silentChecks = limits.silenceTimeoutMs / checkMs;
  const timer = setInterval(() => {
    for (const session of sessions) session.check();
  }, checkMs).unref();

  return {
    accept(socket) {
      const onSession = (session: ServerHttp2Session) => track(session, socket);
      // The server creates the session before emit returns.
      server.once("session", onSession);
      server.emit("connection", socket);
      server.removeListener("session", onSession);
    },
    drain() {
      // GOAWAY: open streams finish, and a new one is refused in a way that lets its client retry.
      for (const { session } of sessions) session.close();
    },
    close() {
      clearInterval(timer);
      server.close();
    },
  };

  function track(session: ServerHttp2Session, socket: Socket): void {
    const counter = createPieceCounter();
    const tracked = { session, check };
    const endMs = drawConnectionEnd(limits.maxConnectionAgeMs);
    const exceedsOverhead = createOverheadLimit();
    let calls = 0;
    let openStreams = 0;
    let idleSinceMs = performance.now();
    /** The bytes received, and the number of checks since they last grew. */
    let received = { bytes: 0, checks: 0 };
    let lastStreamId = 0;
    /** The stream whose headers are incomplete, and since when. */
    let partial = { id: 0, sinceMs: 0 };
    sessions.add(tracked);
    const refuse = () => session.destroy(undefined, constants.NGHTTP2_ENHANCE_YOUR_CALM);
    unauthenticated.enterConnection(session, refuse);
    session.on("stream", (stream) => {
      // A stream that is reset before its call starts has no other listener, and its error would end the process.
      stream.on("error", () => undefined);
      calls += 1;
      openStreams += 1;
      lastStreamId = stream.id ?? lastStreamId;
      // The whole session ends: a caller with one such body can send more of them.
      if (!stream.endAfterHeaders) {
        joinPieces(stream, counter, refuse);
      }
      unauthenticated.enterStream(session, stream, () => stream.close(constants.NGHTTP2_REFUSED_STREAM));
      stream.once("close", () => {
        openStreams -= 1;
        idleSinceMs = performance.now();
      });
    });
    session.once("close", () => sessions.delete(tracked));

    /**
     * Ends the connection when it is idle, silent or too old, sends too much overhead, or leaves a header block incomplete.
     */
    function check(): void {
      const nowMs = performance.now();
      const { bytesRead: total } = socket;
      if (exceedsOverhead({ total, bodies: counter.bodyBytes, calls }, nowMs)) return refuse();
      if (endIfSilent(total)) return;
      if (openStreams === 0 && nowMs - idleSinceMs >= limits.sessionIdleTimeoutMs) return end();
      if (nowMs >= endMs) return end();
      // Node reports a stream once its headers are complete. Until then, only the last stream id changes.
      const id = session.state.lastProcStreamID ?? 0;
      if (id <= lastStreamId) return;
      if (partial.id !== id) partial = { id, sinceMs: nowMs };
      else if (nowMs - partial.sinceMs >= limits.headersTimeoutMs) end();
    }

    /**
     * Node stops reading a connection, but keeps it, when the peer breaks the protocol or resets too many streams. Silence
     * is counted in checks: after a stall of this process, peers have time to answer.
     */
    function endIfSilent(bytes: number): boolean {
      received = { bytes, checks: bytes === received.bytes ? received.checks + 1 : 0 };
      const isSilent = received.checks >= silentChecks;
      if (isSilent) socket.destroy();
      else if (received.checks >= silentChecks / 2 && !session.destroyed) session.ping(() => undefined);
      return isSilent;
    }

    function end(): void {
      if (session.closed) return;
      // A session with open streams ends after the last one. Each stream has its own limits.
      session.close();
      if (openStreams > 0) return;
      // A peer that has vanished or misbehaves does not close its side.
      const timer = setTimeout(() => socket.destroy(), limits.headersTimeoutMs);
      socket.once("close", () => clearTimeout(timer));
    }
  }
}

interface Tracked {
  readonly session: ServerHttp2Session;
  readonly check: () => void;
}
