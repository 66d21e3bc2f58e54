import { createServer as createHttpServer, type Server as HttpServer, type ServerOptions } from "node:http";
import {
  createServer as createHttp2Server,
  createSecureServer,
  type Http2Server,
  type ServerHttp2Session,
} from "node:http2";
import { type AddressInfo, createServer as createTcpServer, type Socket, type Server as TcpServer } from "node:net";
import type { TLSSocket } from "node:tls";
import type { Request, Response } from "./origin.ts";
import { onPreface } from "./preface.ts";

export interface ListenerOptions {
  readonly host: string;
  /** 0 takes a free one. */
  readonly port: number;
  /** PEM. All doors speak TLS then. */
  readonly tls?: { readonly cert: string; readonly key: string } | undefined;
  readonly onRequest: (request: Request, response: Response) => void;
  /** The JSON body of the 400 that answers what is no HTTP. */
  readonly badRequestBody: () => string;
  /** How long a client may take to send its preface or its headers. */
  readonly headersTimeoutMs?: number;
}

export interface Listener {
  readonly port: number;
  /**
   * Takes no new connection and no new call, lets running calls finish, and resolves when all connections are closed.
   * @param limitMs what runs longer is cut
   */
  drain(limitMs: number): Promise<void>;
}

/** Streams that one HTTP/2 connection may have open: a caller of gRPC puts all its calls on one. */
const maxConcurrentStreams = 1000;
/** How long a client may take to send a whole request over HTTP/1.1. */
const requestTimeoutMs = 300_000;
const keepAliveTimeoutMs = 65_000;

/**
 * One port for HTTP/1.1 and HTTP/2. In cleartext the connection preface tells them apart (RFC 9113, 3.4), with TLS the
 * handshake does (ALPN).
 */
export async function listen(options: ListenerOptions): Promise<Listener> {
  const { headersTimeoutMs = 10_000 } = options;
  const limits: ServerOptions = {
    headersTimeout: headersTimeoutMs,
    requestTimeout: requestTimeoutMs,
    keepAliveTimeout: keepAliveTimeoutMs,
    connectionsCheckingInterval: Math.min(headersTimeoutMs, 30_000),
  };
  const connections = new Set<Socket>();
  const sessions = new Set<ServerHttp2Session>();
  let draining = false;
  const http1 = createHttp1(limits, options);
  // A connection that was busy when the drain began is idle when its answer has gone.
  http1.on("request", (_request, response) => {
    response.once("finish", () => setImmediate(() => draining && http1.closeIdleConnections()));
  });
  const entry = options.tls === undefined ? cleartext() : secure(options.tls);
  entry.on("connection", (socket: Socket) => {
    connections.add(socket);
    socket.once("close", () => connections.delete(socket));
  });
  await new Promise<void>((done, fail) => {
    entry.once("error", fail);
    entry.listen(options.port, options.host, () => done());
  });

  return {
    port: (entry.address() as AddressInfo).port,
    async drain(limitMs) {
      draining = true;
      const closed = new Promise<void>((done) => entry.close(() => done()));
      for (const session of sessions) session.close();
      http1.closeIdleConnections();
      const timer = setTimeout(() => {
        for (const session of sessions) session.destroy();
        for (const socket of connections) socket.destroy();
      }, limitMs);
      await closed;
      clearTimeout(timer);
      http1.close();
    },
  };

  function cleartext(): TcpServer {
    const http2 = track(createHttp2Server({ settings: { maxConcurrentStreams } }));
    // Never listening by itself, it would watch over no timeouts.
    http1.emit("listening");
    return createTcpServer({ noDelay: true }, (socket) => {
      onPreface(socket, headersTimeoutMs, (isHttp2) => (isHttp2 ? http2 : http1).emit("connection", socket));
    });
  }

  function secure(tls: { cert: string; key: string }): TcpServer {
    const http2 = createSecureServer({
      ...tls,
      settings: { maxConcurrentStreams },
      allowHTTP1: false,
      ALPNProtocols: ["h2", "http/1.1"],
      minVersion: "TLSv1.2",
    });
    http1.emit("listening");
    track(http2);
    const isHttp1 = (socket: TLSSocket) => socket.alpnProtocol !== "h2";
    // http2's own listener would answer HTTP/1.1 with a second-class server: ours takes it.
    const [own] = http2.listeners("secureConnection") as ((socket: TLSSocket) => void)[];
    http2.removeAllListeners("secureConnection");
    http2.on("secureConnection", (socket: TLSSocket) => {
      if (isHttp1(socket)) http1.emit("connection", socket);
      else own?.call(http2, socket);
    });
    return http2;
  }

  function track<Server extends Http2Server | ReturnType<typeof createSecureServer>>(server: Server): Server {
    server.on("session", (session: ServerHttp2Session) => {
      sessions.add(session);
      session.once("close", () => sessions.delete(session));
      // A fault of one connection is the end of that connection and of nothing else.
      session.on("error", () => session.destroy());
      if (draining) session.close();
    });
    server.on("request", (request: Request, response: Response) => options.onRequest(request, response));
    return server;
  }
}

function createHttp1(limits: ServerOptions, { onRequest, badRequestBody }: ListenerOptions): HttpServer {
  const server = createHttpServer(limits, onRequest);
  server.on("clientError", (error: NodeJS.ErrnoException, socket: Socket) => {
    if (error.code === "ECONNRESET" || !socket.writable) {
      socket.destroy();
      return;
    }
    const status =
      error.code === "ERR_HTTP_REQUEST_TIMEOUT"
        ? "408 Request Timeout"
        : error.code === "HPE_HEADER_OVERFLOW"
          ? "431 Request Header Fields Too Large"
          : "400 Bad Request";
    const body = badRequestBody();
    const head = `HTTP/1.1 ${status}\r\ncontent-type: application/json\r\ncontent-length: ${Buffer.byteLength(body)}\r\nconnection: close\r\n\r\n`;
    socket.end(head + body);
  });
  return server;
}
