import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { Socket } from "node:net";
import { hasBody } from "../gateway/body.ts";
import { answerHeaders } from "../pipeline/client-origin.ts";
import { createPieceCounter, joinPieces } from "./body-pieces.ts";
import { type ConnectionLimits, drawConnectionEnd, type ProtocolServer, type RequestListener } from "./connections.ts";
import type { UnauthenticatedConnections } from "./unauthenticated.ts";

/** Why a request could not be read. */
export type BadRequestReason = "MALFORMED_HTTP" | "HEADERS_TOO_SLOW" | "HEADERS_TOO_LARGE" | "HTTP_METHOD_UNKNOWN";

export interface Http1Options {
  readonly limits: ConnectionLimits;
  readonly unauthenticated: UnauthenticatedConnections;
  readonly onRequest: RequestListener;
  /** Returns the JSON body of the response to bytes that are not a valid request. */
  readonly badRequestBody: (reason: BadRequestReason) => string;
}

/** Serves HTTP/1.1. It ignores requests to upgrade the protocol. */
export function createHttp1({ limits, unauthenticated, onRequest, badRequestBody }: Http1Options): ProtocolServer {
  const running = new Map<Socket, Set<ServerResponse>>();
  /** Timers of requests that have a response but whose body has not ended. */
  const lagging = new WeakMap<Socket, NodeJS.Timeout>();
  /** When each connection reaches its maximum age. */
  const endsMs = new WeakMap<Socket, number>();
  let draining = false;
  const server = createServer({
    headersTimeout: limits.headersTimeoutMs,
    requestTimeout: limits.requestTimeoutMs,
    keepAliveTimeout: limits.keepAliveTimeoutMs,
    connectionsCheckingInterval: Math.min(limits.headersTimeoutMs, 5_000),
    maxHeaderSize: limits.maxHeaderBytes,
    // Node's own response has no body, so serve() checks the header.
    requireHostHeader: false,
  });
  server.on("request", serve);
  // An unknown expectation may be ignored (RFC 9110, 10.1.1). Node's own response to it has no body.
  server.on("checkExpectation", serve);
  server.on("clientError", refuse);
  // This server never listens. Node starts the check of its timeouts on this event.
  server.emit("listening");

  return {
    accept(socket) {
      running.set(socket, new Set());
      endsMs.set(socket, drawConnectionEnd(limits.maxConnectionAgeMs));
      unauthenticated.enterConnection(socket, () => socket.destroy());
      socket.once("close", () => {
        running.delete(socket);
        clearTimeout(lagging.get(socket));
      });
      server.emit("connection", socket);
    },
    drain() {
      draining = true;
      for (const [socket, responses] of running) {
        for (const response of responses) announceEnd(response);
        endIfIdle(socket);
      }
    },
    close: () => void server.close(),
  };

  function serve(request: IncomingMessage, response: ServerResponse): void {
    const { socket } = request;
    // A request that announces no body has no pieces.
    if (hasBody(request)) joinPieces(request, createPieceCounter(), () => socket.destroy());
    running.get(socket)?.add(response);
    // A new request means that the body of the last one has ended.
    clearTimeout(lagging.get(socket));
    response.once("finish", () => endIfBodyLags(request));
    response.once("close", () => {
      running.get(socket)?.delete(response);
      if (draining) endIfIdle(socket);
    });
    // The call counts until its response is sent.
    unauthenticated.enterStream(socket, response, () => socket.destroy());
    if (draining || performance.now() >= (endsMs.get(socket) ?? 0)) announceEnd(response);
    if (!hasOneHost(request)) {
      const body = badRequestBody("MALFORMED_HTTP");
      response.writeHead(400, headersOf(body)).end(body);
    } else {
      unauthenticated.startCall(socket, () => {
        if (!socket.destroyed) onRequest(request, response);
      });
    }
  }

  /** Gives the caller a limited time to finish its body after the response. */
  function endIfBodyLags(request: IncomingMessage): void {
    if (request.complete) return;
    const { socket } = request;
    const timer = setTimeout(() => {
      // A destroyed request emits no event.
      if (!request.complete) socket.destroy();
    }, limits.lingerTimeoutMs);
    lagging.set(socket, timer);
    request.once("close", () => clearTimeout(timer));
    discardRest(request);
  }

  // server.closeIdleConnections() would cut a response that a slow reader has not read to its end.
  function endIfIdle(socket: Socket): void {
    if (running.get(socket)?.size === 0) socket.destroySoon();
  }

  function refuse(error: NodeJS.ErrnoException, socket: Socket): void {
    const responseHasBegun = [...(running.get(socket) ?? [])].some(({ headersSent }) => headersSent);
    if (error.code === "ECONNRESET" || !socket.writable || responseHasBegun) {
      socket.destroy();
      return;
    }
    const [status, reason] = outcomeOf(error);
    const body = badRequestBody(reason);
    const lines = Object.entries(headersOf(body)).map(([name, value]) => `${name}: ${value}\r\n`);
    socket.end(`HTTP/1.1 ${status}\r\n${lines.join("")}\r\n${body}`, () => socket.destroy());
  }
}

/** Whether the request has exactly one valid Host (RFC 9112, 3.2). Node silently keeps the first of several lines. */
function hasOneHost({ httpVersion, headers, rawHeaders }: IncomingMessage): boolean {
  if (headers.host === undefined) return httpVersion !== "1.1";
  const lines = rawHeaders.filter((name, index) => index % 2 === 0 && name.toLowerCase() === "host").length;
  return lines === 1 && hostPattern.test(headers.host);
}

/** `uri-host [ ":" port ]` of RFC 3986: a name, an IPv4 address, or an IP literal in brackets. It may be empty. */
const hostPattern = /^([\w.~!$&'()*+,;=%-]*|\[[\da-fv.:]+\])(:\d*)?$/i;

/**
 * Reads what is left of a body. Node does so itself for a body that has no reader; one that has lost its reader holds up
 * the next request of its connection.
 */
function discardRest(request: IncomingMessage): void {
  const discard = () => {
    while (request.read() !== null);
  };
  request.on("readable", discard);
  discard();
}

function announceEnd(response: ServerResponse): void {
  if (!response.headersSent) response.setHeader("connection", "close");
}

function headersOf(body: string) {
  return {
    ...answerHeaders,
    "content-type": "application/json",
    "content-length": Buffer.byteLength(body),
    connection: "close",
  };
}

interface ParseError extends NodeJS.ErrnoException {
  /** The bytes that could not be parsed. */
  readonly rawPacket?: Buffer;
}

/** A complete request line with any method. */
const requestLine = /^[!#$%&'*+.^`|~\w-]+ \S+ HTTP\/1\.[01]\r?$/m;

function outcomeOf({ code, rawPacket }: ParseError): [status: string, reason: BadRequestReason] {
  switch (code) {
    case "HPE_INVALID_METHOD":
      // Bytes of another protocol also fail at the method.
      return requestLine.test(rawPacket?.toString("latin1") ?? "")
        ? ["501 Not Implemented", "HTTP_METHOD_UNKNOWN"]
        : ["400 Bad Request", "MALFORMED_HTTP"];
    case "ERR_HTTP_REQUEST_TIMEOUT":
      return ["408 Request Timeout", "HEADERS_TOO_SLOW"];
    case "HPE_HEADER_OVERFLOW":
      return ["431 Request Header Fields Too Large", "HEADERS_TOO_LARGE"];
    default:
      return ["400 Bad Request", "MALFORMED_HTTP"];
  }
}
