import { type AddressInfo, createServer as createTcpServer, type Server, type Socket } from "node:net";
import { createServer as createTlsServer, type Server as TlsServer } from "node:tls";
import { type ConnectionLimits, defaultLimits, type RequestListener } from "./connections.ts";
import { createOldestEviction } from "./eviction.ts";
import { createHttp1, type Http1Options } from "./http1.ts";
import { createHttp2, type Http2Options } from "./http2.ts";
import { onPreface } from "./preface.ts";
import {
  createUnauthenticatedConnections,
  defaultUnauthenticatedLimits,
  type UnauthenticatedConnections,
} from "./unauthenticated.ts";

/** PEM: the certificate chain and its key. */
export interface KeyPair {
  readonly cert: string | Buffer;
  readonly key: string | Buffer;
}

export interface ListenerOptions {
  readonly host: string;
  /** 0 selects a free port. */
  readonly port: number;
  /** When set, the port accepts TLS only. */
  readonly tls?: KeyPair | undefined;
  readonly onRequest: RequestListener;
  /** Returns whether it serves the HTTP/2 stream; otherwise the stream becomes a request. */
  readonly onStream?: Http2Options["onStream"];
  readonly badRequestBody: Http1Options["badRequestBody"];
  /** Overrides of the default limits. */
  readonly limits?: Partial<ConnectionLimits>;
  /** Bounds what unauthenticated callers keep open. */
  readonly unauthenticated?: UnauthenticatedConnections;
  /** Called when a connection could not be accepted, for example without file descriptors. The listener continues. */
  readonly onAcceptError?: (error: Error) => void;
}

export interface Listener {
  readonly port: number;
  /**
   * Stops accepting connections, closes idle ones, and lets running calls finish. Resolves when all connections are
   * closed. A second call returns the same promise.
   * @param limitMs after it, open connections are destroyed
   */
  readonly drain: (limitMs: number) => Promise<void>;
  /**
   * Uses another certificate for new connections. Open ones keep theirs. Undefined without TLS.
   * @throws Node's error when the pair is invalid; the old pair stays in use
   */
  readonly replaceTls: ((pair: KeyPair) => void) | undefined;
}

/**
 * Listens on one port for HTTP/1.1 and HTTP/2. The connection preface tells them apart (RFC 9113, 3.4), or ALPN with
 * TLS.
 * @throws Node's error when it cannot listen on the port
 */
export async function listen(options: ListenerOptions): Promise<Listener> {
  const { host, port, tls, onRequest, onStream, badRequestBody, onAcceptError = () => undefined } = options;
  const limits = { ...defaultLimits, ...options.limits };
  const connections = new Set<Socket>();
  const unidentified = new Set<Socket>();
  const unauthenticated = options.unauthenticated ?? createUnauthenticatedConnections(defaultUnauthenticatedLimits);
  const http1 = createHttp1({ limits, unauthenticated, onRequest, badRequestBody });
  const http2 = createHttp2({ limits, unauthenticated, onRequest, onStream });
  let drained: Promise<void> | undefined;

  const secureServer = tls && createSecureServer(tls);
  const server = secureServer ?? createCleartextServer();
  server.on("connection", (socket: Socket) => {
    connections.add(socket);
    socket.once("close", () => connections.delete(socket));
  });
  try {
    await startListening(server, host, port);
  } catch (error) {
    http1.close();
    http2.close();
    throw error;
  }
  server.on("error", onAcceptError);

  return {
    port: (server.address() as AddressInfo).port,
    drain(limitMs) {
      drained ??= drain(limitMs);
      return drained;
    },
    replaceTls: secureServer && (({ cert, key }) => secureServer.setSecureContext({ cert, key, minVersion })),
  };

  async function drain(limitMs: number): Promise<void> {
    const closed = new Promise<void>((done) => server.close(() => done()));
    for (const socket of unidentified) socket.destroy();
    http1.drain();
    http2.drain();
    const timer = setTimeout(() => {
      for (const socket of connections) socket.destroy();
    }, limitMs);
    await closed;
    clearTimeout(timer);
    http1.close();
    http2.close();
  }

  function createCleartextServer(): Server {
    const silent = createOldestEviction(defaultUnauthenticatedLimits.maxConnections);
    return createTcpServer(tcpOptions, (socket) => {
      const leave = silent.enter(() => socket.destroy());
      unidentified.add(socket);
      socket.once("close", () => {
        unidentified.delete(socket);
        leave();
      });
      onPreface(socket, limits.headersTimeoutMs, (isHttp2) => {
        unidentified.delete(socket);
        leave();
        (isHttp2 ? http2 : http1).accept(socket);
      });
    });
  }

  function createSecureServer({ cert, key }: KeyPair): TlsServer {
    const handshake = { minVersion, ALPNProtocols: ["h2", "http/1.1"] } as const;
    const times = { handshakeTimeout: limits.headersTimeoutMs };
    const tlsServer = createTlsServer({ cert, key, ...handshake, ...times, ...tcpOptions }, (socket) => {
      // The drain began during the handshake.
      if (drained !== undefined) socket.destroy();
      else (socket.alpnProtocol === "h2" ? http2 : http1).accept(socket);
    });
    // Node leaves the connection open when its handshake fails or times out.
    tlsServer.on("tlsClientError", (_error, socket) => socket.destroy());
    return tlsServer;
  }
}

const minVersion = "TLSv1.2";
/** keepAlive detects peers that vanish during a call. */
const tcpOptions = { noDelay: true, keepAlive: true, keepAliveInitialDelay: 60_000 };

function startListening(server: Server, host: string, port: number): Promise<void> {
  return new Promise((done, fail) => {
    server.once("error", fail);
    server.listen(port, host, () => {
      server.removeListener("error", fail);
      done();
    });
  });
}
