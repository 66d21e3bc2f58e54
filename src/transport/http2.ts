import {
  constants,
  createServer,
  type IncomingHttpHeaders,
  type ServerHttp2Session,
  type ServerHttp2Stream,
} from "node:http2";
import type { Socket } from "node:net";
import { createPieceCounter, joinPieces } from "./body-pieces.ts";
import type { ConnectionLimits, ProtocolServer, RequestListener } from "./connections.ts";
import type { UnauthenticatedConnections } from "./unauthenticated.ts";

export interface Http2Options {
  readonly limits: ConnectionLimits;
  readonly strangers: UnauthenticatedConnections;
  readonly onRequest: RequestListener;
  /** Takes a stream before it is made a request; false leaves it. */
  readonly onStream?: ((stream: ServerHttp2Stream, headers: IncomingHttpHeaders) => boolean) | undefined;
}

/** HTTP/2 on connections of which it is known, by preface or by ALPN, that they speak it. */
export function createHttp2({ limits, strangers, onRequest, onStream = () => false }: Http2Options): ProtocolServer {
  const sessions = new Set<Tracked>();
  const server = createServer({
    settings: { maxConcurrentStreams: limits.maxConcurrentStreams, maxHeaderListSize: limits.maxHeaderBytes },
    maxSessionMemory: limits.maxSessionMegabytes,
  });
  // Never listens: it makes requests of the streams that it is given.
  const requests = createServer().on("request", (request, response) => {
    // The request has a buffer of its own beside its stream's.
    if (!request.stream.endAfterHeaders) joinPieces(request);
    onRequest(request, response);
  });
  server.on("stream", (stream, headers, ...rest) => {
    strangers.startCall(stream.session ?? stream, () => {
      if (stream.closed || stream.destroyed) return;
      if (!onStream(stream, headers)) requests.emit("stream", stream, headers, ...rest);
    });
  });
  const checkMs = Math.min(limits.headersTimeoutMs, limits.sessionIdleTimeoutMs, 5_000);
  const timer = setInterval(() => {
    for (const session of sessions) session.check();
  }, checkMs).unref();

  return {
    accept(socket) {
      const onSession = (session: ServerHttp2Session) => track(session, socket);
      // The server makes the session before emit returns.
      server.once("session", onSession);
      server.emit("connection", socket);
      server.removeListener("session", onSession);
    },
    drain() {
      // GOAWAY: running streams finish, and one that is under way is refused as safe to send again.
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
    let openStreams = 0;
    let idleSinceMs = performance.now();
    let lastStreamId = 0;
    /** A stream that has begun and whose headers are not complete, and since when. */
    let begun = { id: 0, sinceMs: 0 };
    sessions.add(tracked);
    strangers.enterConnection(session, () => session.destroy(undefined, constants.NGHTTP2_ENHANCE_YOUR_CALM));
    session.on("stream", (stream) => {
      // A stream that is reset before its call starts has no other listener: its error would end the process.
      stream.on("error", () => undefined);
      openStreams += 1;
      lastStreamId = stream.id ?? lastStreamId;
      // A caller that breaks the rule for one body can as well break it for the next one.
      if (!stream.endAfterHeaders) {
        joinPieces(stream, counter, () => session.destroy(undefined, constants.NGHTTP2_ENHANCE_YOUR_CALM));
      }
      strangers.enterStream(session, stream, () => stream.close(constants.NGHTTP2_REFUSED_STREAM));
      stream.once("close", () => {
        openStreams -= 1;
        idleSinceMs = performance.now();
      });
    });
    session.once("close", () => sessions.delete(tracked));

    /** Ends the connection when it is idle, or when a block of headers does not come to its end. */
    function check(): void {
      const nowMs = performance.now();
      if (openStreams === 0 && nowMs - idleSinceMs >= limits.sessionIdleTimeoutMs) return end();
      // Node tells of a stream when its headers are complete. Until then, only the number of the last one moves on.
      const id = session.state.lastProcStreamID ?? 0;
      if (id <= lastStreamId) return;
      if (begun.id !== id) begun = { id, sinceMs: nowMs };
      else if (nowMs - begun.sinceMs >= limits.headersTimeoutMs) end();
    }

    function end(): void {
      if (session.closed) return;
      // With open streams, the session ends after the last one: each has limits of its own.
      session.close();
      if (openStreams > 0) return;
      // A peer that is gone, or that does not want to leave, does not close its side.
      const timer = setTimeout(() => socket.destroy(), limits.headersTimeoutMs);
      socket.once("close", () => clearTimeout(timer));
    }
  }
}

interface Tracked {
  readonly session: ServerHttp2Session;
  readonly check: () => void;
}
