import { createServer, type IncomingHttpHeaders, type ServerHttp2Session, type ServerHttp2Stream } from "node:http2";
import type { Socket } from "node:net";
import type { ConnectionLimits, ProtocolServer, RequestListener } from "./connections.ts";

export interface Http2Options {
  readonly limits: ConnectionLimits;
  readonly onRequest: RequestListener;
  /** Takes a stream before it is made a request; false leaves it. */
  readonly onStream?: ((stream: ServerHttp2Stream, headers: IncomingHttpHeaders) => boolean) | undefined;
}

/** HTTP/2 on connections of which it is known, by preface or by ALPN, that they speak it. */
export function createHttp2({ limits, onRequest, onStream = () => false }: Http2Options): ProtocolServer {
  const sessions = new Set<ServerHttp2Session>();
  const server = createServer({
    settings: { maxConcurrentStreams: limits.maxConcurrentStreams, maxHeaderListSize: limits.maxHeaderBytes },
    maxSessionMemory: limits.maxSessionMegabytes,
  });
  // Never listens: it makes requests of the streams that it is given.
  const requests = createServer().on("request", onRequest);
  server.on("stream", (stream, headers, ...rest) => {
    if (!onStream(stream, headers)) requests.emit("stream", stream, headers, ...rest);
  });
  server.setTimeout(limits.sessionIdleTimeoutMs);
  // Without a listener Node ends a session that was quiet for that long, its open streams included.
  server.on("timeout", () => undefined);

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
      for (const session of sessions) session.close();
    },
    close: () => void server.close(),
  };

  function track(session: ServerHttp2Session, socket: Socket): void {
    let openStreams = 0;
    sessions.add(session);
    session.on("stream", (stream) => {
      openStreams += 1;
      stream.once("close", () => {
        openStreams -= 1;
      });
    });
    session.on("timeout", () => {
      if (openStreams === 0) end();
    });
    session.once("close", () => sessions.delete(session));

    function end(): void {
      session.close();
      // A peer that is gone, or that does not want to leave, does not close its side.
      const timer = setTimeout(() => socket.destroy(), limits.headersTimeoutMs);
      socket.once("close", () => clearTimeout(timer));
    }
  }
}
