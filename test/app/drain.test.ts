import { once } from "node:events";
import {
  Agent,
  type ClientRequest,
  request as httpRequest,
  type IncomingMessage,
  type ServerResponse,
} from "node:http";
import { connect as connectHttp2 } from "node:http2";
import { connect } from "node:net";
import { text } from "node:stream/consumers";
import { connect as connectTls } from "node:tls";
import { afterEach, describe, expect, test } from "vitest";
import { certificate, everything, getHttp2, openListener, stopAll, tls } from "../support/listener.ts";

afterEach(stopAll);

/** In milliseconds, longer than a test may take: a drain that waits until its limit fails. */
const never = 600_000;

function send(port: number, path: string, agent?: Agent): ClientRequest {
  return httpRequest({ host: "127.0.0.1", port, path, agent }).end();
}

async function answerTo(request: ClientRequest): Promise<IncomingMessage> {
  const [response] = (await once(request, "response")) as [IncomingMessage];
  return response;
}

describe("a drain", () => {
  test("lets a running HTTP/1.1 request finish, then closes its connection", async () => {
    const { port, held, drain } = await openListener();
    const agent = new Agent({ keepAlive: true });
    const request = send(port, "/hold", agent);
    const running = await held();
    const drained = drain(never);
    running.end("finished");
    const response = await answerTo(request);
    expect(response.headers.connection).toBe("close");
    expect(await text(response)).toBe("finished");
    await drained;
  });

  test("closes the connection of a response whose headers promised keep-alive", async () => {
    const { port, held, drain } = await openListener();
    const agent = new Agent({ keepAlive: true });
    const request = send(port, "/hold", agent);
    const running = await held();
    (running as ServerResponse).write("begun, ");
    const response = await answerTo(request);
    expect(response.headers.connection).toBe("keep-alive");
    const drained = drain(never);
    running.end("finished");
    expect(await text(response)).toBe("begun, finished");
    await drained;
  });

  test("waits until a slow client has read its response", async () => {
    const { port, held, drain } = await openListener();
    const request = send(port, "/hold", new Agent({ keepAlive: true }));
    const large = "x".repeat(20_000_000);
    (await held()).end(large);
    const response = await answerTo(request);
    const drained = drain(never);
    expect((await text(response)).length).toBe(large.length);
    await drained;
  });

  test("closes an idle connection at once", async () => {
    const { port, drain } = await openListener();
    const response = await answerTo(send(port, "/", new Agent({ keepAlive: true })));
    const { socket } = response;
    const closed = once(socket, "close");
    await text(response);
    await drain(never);
    await closed;
    expect(socket.destroyed).toBe(true);
  });

  test("lets a running HTTP/2 stream finish and refuses new ones on its connection", async () => {
    const { port, held, drain } = await openListener();
    const session = connectHttp2(`http://127.0.0.1:${port}`);
    const answer = getHttp2(session, "/hold");
    const running = await held();
    const drained = drain(never);
    await expect(getHttp2(session, "/late")).rejects.toThrow("NGHTTP2_REFUSED_STREAM");
    running.end("finished");
    expect(await answer).toBe("finished");
    await drained;
  });

  test("lets running HTTP/1.1 requests and HTTP/2 streams finish over TLS", async () => {
    const { port, held, drain } = await openListener({ tls });
    const session = connectHttp2(`https://127.0.0.1:${port}`, { ca: certificate });
    const answer = getHttp2(session, "/hold");
    const running = await held();
    const socket = connectTls({ port, host: "127.0.0.1", ca: certificate, ALPNProtocols: ["http/1.1"] });
    socket.write("GET /hold HTTP/1.1\r\nhost: x\r\n\r\n");
    const second = await held();
    const drained = drain(never);
    running.end("finished");
    second.end("as well");
    expect(await answer).toBe("finished");
    expect(await everything(socket)).toMatch(/connection: close[^]*as well/i);
    await drained;
  });

  test("refuses new connections while a request runs", async () => {
    const { port, held, drain } = await openListener();
    const request = send(port, "/hold");
    const running = await held();
    const drained = drain(never);
    await expect(answerTo(send(port, "/"))).rejects.toMatchObject({ code: "ECONNREFUSED" });
    running.end();
    await answerTo(request);
    await drained;
  });

  test.each([
    ["a connection that sent nothing", ""],
    ["a connection that stopped within the HTTP/2 preface", "PRI * HT"],
    ["a connection that stopped within the headers", "GET / HTTP/1.1\r\n"],
  ])("does not wait for %s", async (_name, bytes) => {
    const { port, drain } = await openListener();
    const socket = connect(port, "127.0.0.1").on("error", () => undefined);
    await new Promise((done) => socket.write(bytes, done));
    // The server accepts connections in order: once it answers the second, it has read from the first.
    await text(await answerTo(send(port, "/")));
    await drain(never);
    expect(await everything(socket)).toBe("");
  });

  test.each([
    ["HTTP/1.1", undefined],
    ["HTTP/2", undefined],
    ["HTTP/2 with TLS", tls],
  ])("cuts a request that still runs over %s at the time limit", async (protocol, secure) => {
    const { port, held, drain } = await openListener({ tls: secure });
    const base = `${secure === undefined ? "http" : "https"}://127.0.0.1:${port}`;
    const answer =
      protocol === "HTTP/1.1"
        ? answerTo(send(port, "/hold"))
        : getHttp2(connectHttp2(base, { ca: certificate }), "/hold");
    const outcome = answer.then(
      () => "answered",
      () => "cut",
    );
    const running = await held();
    const cut = new Promise<void>((done) => running.on("close", done));
    await drain(50);
    await cut;
    expect(await outcome).toBe("cut");
  });

  test("does not wait for a TLS handshake that ends after the drain began", async () => {
    const { port, drain } = await openListener({ tls });
    const late = connect(port, "127.0.0.1");
    // The server accepts connections in order: once it answers the second, it has accepted the first.
    const session = connectHttp2(`https://127.0.0.1:${port}`, { ca: certificate });
    await getHttp2(session, "/");
    const drained = drain(never);
    const socket = connectTls({ socket: late, host: "127.0.0.1", ca: certificate }).on("error", () => undefined);
    await drained;
    expect(await everything(socket)).toBe("");
  });

  test("runs once: a second call returns the same promise", async () => {
    const { drain } = await openListener();
    const drained = drain(never);
    expect(drain(0)).toBe(drained);
    await drained;
  });
});
