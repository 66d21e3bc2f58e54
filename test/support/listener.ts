import { once } from "node:events";
import { readFileSync } from "node:fs";
import type { ClientHttp2Session, OutgoingHttpHeaders } from "node:http2";
import type { Socket } from "node:net";
import { text } from "node:stream/consumers";
import type { Response } from "../../src/pipeline/client-origin.ts";
import { type Listener, type ListenerOptions, listen } from "../../src/transport/listener.ts";

/** Made with openssl for 127.0.0.1 and localhost, valid for a hundred years, trusted by the tests only. */
export const certificate = readFileSync(new URL("tls/cert.pem", import.meta.url));
export const tls = { cert: certificate, key: readFileSync(new URL("tls/key.pem", import.meta.url)) };

export const badRequest = '{"message":"this is no HTTP request"}';

export interface TestListener extends Listener {
  /** The response of the next request to /hold, which the test has to end. */
  readonly held: () => Promise<Response>;
}

const listeners: Listener[] = [];

/** Answers every request with its version and path, but holds those to /hold. */
export async function openListener(options: Partial<ListenerOptions> = {}): Promise<TestListener> {
  const responses: Response[] = [];
  let arrived = () => {};
  const listener = await listen({
    host: "127.0.0.1",
    port: 0,
    badRequestBody: () => badRequest,
    onRequest(request, response) {
      if (request.url !== "/hold") {
        response.end(`HTTP/${request.httpVersion} ${request.url}`);
        return;
      }
      responses.push(response);
      arrived();
    },
    ...options,
  });
  listeners.push(listener);
  const held = async () => {
    if (responses.length === 0) await new Promise<void>((done) => (arrived = done));
    return responses.shift() as Response;
  };
  return { ...listener, held };
}

/** Closes all listeners of the test, even with open requests. */
export async function stopAll(): Promise<void> {
  await Promise.all(listeners.splice(0).map((listener) => listener.drain(0)));
}

/** Returns the body of the response. Fails when the stream ends without a response. */
export async function getHttp2(session: ClientHttp2Session, path: string, headers?: OutgoingHttpHeaders) {
  session.on("error", () => undefined);
  const stream = session.request({ ":path": path, ...headers });
  const closed = once(stream, "close").then(() => {
    throw new Error("the stream was closed without a response");
  });
  await Promise.race([once(stream, "response"), closed]);
  return text(stream);
}

/** Reads everything that the peer sends until it closes. */
export function everything(socket: Socket): Promise<string> {
  return text(socket);
}
