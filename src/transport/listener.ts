import { type AddressInfo, createServer as createTcpServer, type Server, type Socket } from "node:net";
import { createServer as createTlsServer } from "node:tls";
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

export interface ListenerOptions {
  readonly host: string;
  /** 0 takes a free one. */
  readonly port: number;
  /** PEM. All doors speak TLS then. */
  readonly tls?: { readonly cert: string | Buffer; readonly key: string | Buffer } | undefined;
  readonly onRequest: RequestListener;
  /** Takes a stream of HTTP/2 before it is made a request; false leaves it. */
  readonly onStream?: Http2Options["onStream"];
  readonly badRequestBody: Http1Options["badRequestBody"];
  /** Overrides of the default limits. */
  readonly limits?: Partial<ConnectionLimits>;
  /** Bounds what is open before it is known who calls. */
  readonly strangers?: UnauthenticatedConnections;
  /** Told when a connection could not be accepted, as when file descriptors run out. The listener goes on. */
  readonly onAcceptError?: (error: Error) => void;
}

export interface Listener {
  readonly port: number;
  /**
   * Takes no new connection, ends idle ones, lets running calls finish, and resolves when all connections are closed.
   * Called again, it returns the same promise.
   * @param limitMs what runs longer is cut
   */
  readonly drain: (limitMs: number) => Promise<void>;
}

/**
 * One port for HTTP/1.1 and HTTP/2. In cleartext the connection preface tells them apart (RFC 9113, 3.4), with TLS the
 * handshake does (ALPN).
 * @throws Node's error when the port cannot be listened on
 */
export async function listen(options: ListenerOptions): Promise<Listener> {
  const { host, port, tls, onRequest, onStream, badRequestBody, onAcceptError = () => undefined } = options;
  const limits = { ...defaultLimits, ...options.limits };
  const connections = new Set<Socket>();
  const undecided = new Set<Socket>();
  const strangers = options.strangers ?? createUnauthenticatedConnections(defaultUnauthenticatedLimits);
  const http1 = createHttp1({ limits, strangers, onRequest, badRequestBody });
  const http2 = createHttp2({ limits, strangers, onRequest, onStream });
  let drained: Promise<void> | undefined;

  const entry = tls === undefined ? cleartext() : secure(tls);
  entry.on("connection", (socket: Socket) => {
    connections.add(socket);
    socket.once("close", () => connections.delete(socket));
  });
  try {
    await opened(entry, host, port);
  } catch (error) {
    http1.close();
    http2.close();
    throw error;
  }
  entry.on("error", onAcceptError);

  return {
    port: (entry.address() as AddressInfo).port,
    drain(limitMs) {
      drained ??= drain(limitMs);
      return drained;
    },
  };

  async function drain(limitMs: number): Promise<void> {
    const closed = new Promise<void>((done) => entry.close(() => done()));
    for (const socket of undecided) socket.destroy();
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

  function cleartext(): Server {
    const silent = createOldestEviction(defaultUnauthenticatedLimits.maxConnections);
    return createTcpServer(tcpOptions, (socket) => {
      const leave = silent.enter(() => socket.destroy());
      undecided.add(socket);
      socket.once("close", () => {
        undecided.delete(socket);
        leave();
      });
      onPreface(socket, limits.headersTimeoutMs, (isHttp2) => {
        undecided.delete(socket);
        leave();
        (isHttp2 ? http2 : http1).accept(socket);
      });
    });
  }

  function secure({ cert, key }: { cert: string | Buffer; key: string | Buffer }): Server {
    const handshake = { minVersion: "TLSv1.2", ALPNProtocols: ["h2", "http/1.1"] } as const;
    const times = { handshakeTimeout: limits.headersTimeoutMs };
    const server = createTlsServer({ cert, key, ...handshake, ...times, ...tcpOptions }, (socket) => {
      // The handshake was under way when the drain began.
      if (drained !== undefined) socket.destroy();
      else (socket.alpnProtocol === "h2" ? http2 : http1).accept(socket);
    });
    // A handshake that fails or takes too long leaves its connection open.
    server.on("tlsClientError", (_error, socket) => socket.destroy());
    return server;
  }
}

/** keepAlive finds the peers that vanished while their calls were open. */
const tcpOptions = { noDelay: true, keepAlive: true, keepAliveInitialDelay: 60_000 };

function opened(server: Server, host: string, port: number): Promise<void> {
  return new Promise((done, fail) => {
    server.once("error", fail);
    server.listen(port, host, () => {
      server.removeListener("error", fail);
      done();
    });
  });
}
