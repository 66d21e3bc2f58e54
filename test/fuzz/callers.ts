import { Agent, request } from "node:http";
import { type ClientHttp2Session, connect } from "node:http2";
import type { Sent } from "./requests.ts";

/** The answer to a request. */
export interface Got {
  /** 0 without an answer: the server ended the stream or the connection. */
  readonly status: number;
  readonly headers: Record<string, unknown>;
  readonly trailers: Record<string, unknown>;
  readonly body: Buffer;
  /** The reset code of the stream, or 0. */
  readonly rstCode: number;
  /** The reason why an HTTP/1.1 connection ended without an answer. */
  readonly lost?: string;
}

export interface Caller {
  /** @throws Error when there is no answer in time */
  send(sent: Pick<Sent, "headers" | "body" | "isCut" | "transport">): Promise<Got>;
  close(): void;
}

/** Longer than every limit of the server: a conversion waits for 10 s and takes up to 30 s. */
const timeoutMs = 60_000;

/** One connection for each version of HTTP, opened again after the server ends it. */
export function openCaller(url: string): Caller {
  const http1 = openHttp1(url);
  const http2 = openHttp2(url);
  return {
    send: (sent) => (sent.transport.endsWith("HTTP/1.1") ? http1 : http2).send(sent),
    close() {
      http1.close();
      http2.close();
    },
  };
}

function openHttp2(url: string): Caller {
  let session: ClientHttp2Session | undefined;
  return {
    send({ headers, body, isCut }) {
      if (session === undefined || session.closed || session.destroyed) {
        session = connect(url);
        session.on("error", () => undefined);
      }
      const stream = session.request(headers, { endStream: body.length === 0 });
      return inTime((done) => {
        const got = { status: 0, headers: {}, trailers: {} };
        const chunks: Buffer[] = [];
        stream.on("response", (received) =>
          Object.assign(got, { status: received[":status"] ?? 0, headers: received }),
        );
        stream.on("trailers", (received) => Object.assign(got, { trailers: received }));
        stream.on("data", (chunk: Buffer) => chunks.push(chunk));
        stream.on("error", () => undefined);
        const settle = () => done({ ...got, body: Buffer.concat(chunks), rstCode: stream.rstCode ?? 0 });
        // A stream whose body the server no longer needs ends, and Node's client does not close it.
        stream.once("end", () => setImmediate(settle)).once("close", settle);
        if (isCut) stream.write(body);
        else if (body.length > 0) stream.end(body);
      });
    },
    close: () => session?.destroy(),
  };
}

function openHttp1(url: string): Caller {
  const { hostname, port } = new URL(url);
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  return {
    send({ headers: { ":method": method, ":path": path, te: _te, ...headers }, body, isCut }) {
      return inTime((done) => {
        const none = { status: 0, headers: {}, trailers: {}, body: Buffer.alloc(0), rstCode: 0 };
        const length = isCut ? body.length + 10 : body.length;
        const sized = length > 0 ? { ...headers, "content-length": length } : headers;
        const call = request({ hostname, port, agent, method, path, headers: sized }, (answer) => {
          const chunks: Buffer[] = [];
          answer.on("data", (chunk: Buffer) => chunks.push(chunk));
          answer.once("close", () => {
            const { statusCode = 0, headers: received, trailers } = answer;
            done({ status: statusCode, headers: received, trailers, body: Buffer.concat(chunks), rstCode: 0 });
            // The rest of a truncated body never comes: the connection cannot be used again.
            if (isCut) call.destroy();
          });
        });
        call.on("error", (error: NodeJS.ErrnoException) => done({ ...none, lost: error.code ?? error.message }));
        if (isCut) call.write(body);
        else call.end(body);
      });
    },
    close: () => agent.destroy(),
  };
}

function inTime(work: (done: (got: Got) => void) => void): Promise<Got> {
  return new Promise((done, fail) => {
    const timer = setTimeout(() => fail(new Error("no answer in time")), timeoutMs);
    work((got) => {
      clearTimeout(timer);
      done(got);
    });
  });
}
