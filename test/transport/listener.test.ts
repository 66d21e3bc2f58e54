import { once } from "node:events";
import { Agent, request as httpRequest, type IncomingMessage, type ServerResponse } from "node:http";
import { connect as connectHttp2 } from "node:http2";
import { request as httpsRequest } from "node:https";
import { connect, type Socket } from "node:net";
import { buffer, text } from "node:stream/consumers";
import { afterEach, describe, expect, test } from "vitest";
import { createUnauthenticatedConnections } from "../../src/transport/unauthenticated.ts";
import { flags, frame, openFrames, requestHeaders } from "../support/frames.ts";
import { badRequest, certificate, everything, getHttp2, openListener, stopAll, tls } from "../support/listener.ts";

afterEach(stopAll);

const preface = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
const emptySettings = Buffer.from([0, 0, 0, 4, 0, 0, 0, 0, 0]);

async function get(port: number, path: string, options: object = {}): Promise<IncomingMessage> {
  const request = httpRequest({ host: "127.0.0.1", port, path, ...options }).end();
  const [response] = (await once(request, "response")) as [IncomingMessage];
  return response;
}

/** Writes each byte in its own packet, as far as the kernel permits. */
async function writeSlowly(socket: Socket, bytes: Buffer): Promise<void> {
  for (const byte of bytes) {
    await new Promise((done) => socket.write(Buffer.of(byte), done));
    await new Promise(setImmediate);
  }
}

describe("one port", () => {
  test("serves HTTP/1.1 and HTTP/2 in cleartext", async () => {
    const { port } = await openListener();
    expect(await text(await get(port, "/one"))).toBe("HTTP/1.1 /one");
    expect(await getHttp2(connectHttp2(`http://127.0.0.1:${port}`), "/two")).toBe("HTTP/2.0 /two");
  });

  test("serves HTTP/1.1 and HTTP/2 with TLS", async () => {
    const { port } = await openListener({ tls });
    const request = httpsRequest({ host: "127.0.0.1", port, path: "/one", ca: certificate }).end();
    const [response] = (await once(request, "response")) as [IncomingMessage];
    expect(await text(response)).toBe("HTTP/1.1 /one");
    const session = connectHttp2(`https://127.0.0.1:${port}`, { ca: certificate });
    expect(await getHttp2(session, "/two")).toBe("HTTP/2.0 /two");
    expect(session.alpnProtocol).toBe("h2");
  });

  test("recognizes HTTP/2 when the preface arrives byte by byte", async () => {
    const { port } = await openListener();
    const socket = connect(port, "127.0.0.1").setNoDelay();
    await writeSlowly(socket, Buffer.concat([preface, emptySettings]));
    const [answer] = (await once(socket, "data")) as [Buffer];
    expect(answer[3], "the type of the first frame, SETTINGS").toBe(4);
  });

  test("recognizes HTTP/1.1 that arrives byte by byte and begins like the HTTP/2 preface", async () => {
    const { port } = await openListener();
    const socket = connect(port, "127.0.0.1").setNoDelay();
    await writeSlowly(socket, Buffer.from("PUT /slow HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"));
    expect(await everything(socket)).toMatch(/^HTTP\/1.1 200 OK\r\n[^]*HTTP\/1.1 \/slow$/);
  });

  test("forwards every byte of a large request", async () => {
    const { port } = await openListener({
      onRequest: (request, response) => void buffer(request).then(({ length }) => response.end(String(length))),
    });
    const body = Buffer.alloc(5_000_000);
    const request = httpRequest({ host: "127.0.0.1", port, method: "POST" }).end(body);
    const [response] = (await once(request, "response")) as [IncomingMessage];
    expect(await text(response)).toBe("5000000");
    const stream = connectHttp2(`http://127.0.0.1:${port}`).request({ ":method": "POST" }).end(body);
    expect(await text(stream)).toBe("5000000");
  });

  test("answers a request to upgrade to HTTP/2 over HTTP/1.1", async () => {
    const { port } = await openListener();
    const headers = { connection: "Upgrade, HTTP2-Settings", upgrade: "h2c", "http2-settings": "AAMAAABkAAQAAP__" };
    const response = await get(port, "/", { headers });
    expect(response.statusCode).toBe(200);
    expect(await text(response)).toBe("HTTP/1.1 /");
  });

  test("answers many requests on one connection", async () => {
    const { port } = await openListener();
    const agent = new Agent({ keepAlive: true, maxSockets: 1 });
    const localPorts = new Set<number | undefined>();
    for (let number = 0; number < 100; number += 1) {
      const response = await get(port, `/${number}`, { agent });
      localPorts.add(response.socket.localPort);
      expect(await text(response)).toBe(`HTTP/1.1 /${number}`);
    }
    expect(localPorts.size).toBe(1);
    agent.destroy();
  });

  test("reads the next request although the previous body was not read to its end", async () => {
    const { port } = await openListener({
      limits: { lingerTimeoutMs: 100 },
      async onRequest(request, response) {
        if (request.method === "POST") await (request as IncomingMessage)[Symbol.asyncIterator]().next();
        response.end(String(request.url));
      },
    });
    const agent = new Agent({ keepAlive: true, maxSockets: 1 });
    const call = httpRequest({ host: "127.0.0.1", port, path: "/first", method: "POST", agent }).end(
      "x".repeat(200_000),
    );
    const [answer] = (await once(call, "response")) as [IncomingMessage];
    const { localPort } = answer.socket;
    expect(await text(answer)).toBe("/first");
    const next = await get(port, "/next", { agent });
    expect(next.socket.localPort).toBe(localPort);
    expect(await text(next)).toBe("/next");
    agent.destroy();
  });

  test("fails when the port is taken", async () => {
    const { port } = await openListener();
    await expect(openListener({ port })).rejects.toMatchObject({ code: "EADDRINUSE" });
  });
});

describe("limits", () => {
  const limits = { headersTimeoutMs: 100 };

  test.each([
    ["says nothing", Buffer.alloc(0)],
    ["stops within the preface", preface.subarray(0, 10)],
  ])("cut a connection that %s", async (_name, bytes) => {
    const { port } = await openListener({ limits });
    const socket = connect(port, "127.0.0.1");
    socket.write(bytes);
    expect(await everything(socket)).toBe("");
  });

  test("cut a connection that never finishes its TLS handshake", async () => {
    const { port } = await openListener({ limits, tls });
    const socket = connect(port, "127.0.0.1").on("error", () => undefined);
    expect(await everything(socket)).toBe("");
  });

  test("cut a request whose headers trickle", async () => {
    const { port } = await openListener({ limits });
    const socket = connect(port, "127.0.0.1").on("error", () => undefined);
    socket.write("GET / HTTP/1.1\r\nhost: x\r\n");
    const trickle = setInterval(() => socket.write("x-slow: 1\r\n"), 20);
    const answer = await everything(socket);
    clearInterval(trickle);
    expect(answer).toMatch(/^HTTP\/1.1 408 /);
  });

  test("cut a request whose body does not arrive", async () => {
    const { port, held } = await openListener({ limits: { ...limits, requestTimeoutMs: 200 } });
    const socket = connect(port, "127.0.0.1");
    socket.write("POST /hold HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nhalf");
    await held();
    expect(await everything(socket)).toMatch(/^HTTP\/1.1 408 /);
  });

  test("end an HTTP/2 connection without calls, and keep one with a silent call", async () => {
    const { port, held } = await openListener({ limits: { sessionIdleTimeoutMs: 100 } });
    const session = connectHttp2(`http://127.0.0.1:${port}`);
    const quiet = getHttp2(session, "/hold");
    const response = await held();
    // This connection opens later, so its limit passes later.
    await once(connectHttp2(`http://127.0.0.1:${port}`), "close");
    expect(await getHttp2(session, "/another")).toBe("HTTP/2.0 /another");
    response.end("late");
    expect(await quiet).toBe("late");
  });

  test("end an HTTP/2 connection without calls whose peer does not close it", async () => {
    const { port } = await openListener({ limits: { ...limits, sessionIdleTimeoutMs: 100 } });
    const socket = connect({ port, host: "127.0.0.1", allowHalfOpen: true });
    socket.write(Buffer.concat([preface, emptySettings]));
    socket.resume();
    await once(socket, "end");
    // The writes make the client notice the reset.
    const trickle = setInterval(() => socket.write(emptySettings), 20);
    const error = await new Promise<NodeJS.ErrnoException>((done) => socket.once("error", done));
    clearInterval(trickle);
    expect(["ECONNRESET", "EPIPE"]).toContain(error.code);
  });

  test("end an HTTP/2 connection whose headers never end", async () => {
    const { port } = await openListener({ limits });
    const socket = openFrames(port);
    socket.write(frame("headers", flags.endStream, 1, requestHeaders("/", "text/plain")));
    await once(socket, "close");
    expect(socket.destroyed).toBe(true);
  });

  test("end an HTTP/2 connection that sends pings and no calls", async () => {
    const { port } = await openListener({ limits: { ...limits, sessionIdleTimeoutMs: 100 } });
    const session = connectHttp2(`http://127.0.0.1:${port}`);
    const pings = setInterval(() => !session.destroyed && session.ping(() => undefined), 20);
    await once(session, "close");
    clearInterval(pings);
    expect(session.destroyed).toBe(true);
  });

  test("end an HTTP/1.1 connection whose request body continues after the response", async () => {
    const { port } = await openListener({ limits: { lingerTimeoutMs: 100 } });
    const socket = connect(port, "127.0.0.1").on("error", () => undefined);
    socket.write("POST /nowhere HTTP/1.1\r\nhost: x\r\ncontent-length: 100000\r\n\r\n");
    const trickle = setInterval(() => socket.write("x"), 20);
    let answer = "";
    socket.on("data", (chunk) => (answer += String(chunk)));
    // Bytes in flight turn the close of the server into a reset.
    await new Promise<void>((done) => socket.once("close", () => done()));
    clearInterval(trickle);
    expect(answer).toMatch(/^HTTP\/1.1 200 /);
  });

  test("refuse headers that are too large", async () => {
    const { port } = await openListener({ limits: { maxHeaderBytes: 2000 } });
    const headers = { "x-large": "x".repeat(3000) };
    const response = await get(port, "/", { headers });
    expect(response.statusCode).toBe(431);
    expect(await text(response)).toBe(badRequest);
    const session = connectHttp2(`http://127.0.0.1:${port}`);
    // The settings of the server apply once the client has acknowledged them.
    expect(await getHttp2(session, "/before")).toBe("HTTP/2.0 /before");
    await expect(getHttp2(session, "/", headers)).rejects.toMatchObject({ code: "ERR_HTTP2_STREAM_ERROR" });
    expect(await getHttp2(session, "/after")).toBe("HTTP/2.0 /after");
  });
});

describe("input that is not HTTP", () => {
  test.each([
    ["not HTTP at all", "nonsense\r\n\r\n"],
    ["a header without a name", "GET / HTTP/1.1\r\nhost: x\r\n: y\r\n\r\n"],
    ["a request without a host", "GET / HTTP/1.1\r\n\r\n"],
    ["a request with two Host lines", "GET / HTTP/1.1\r\nhost: x\r\nHost: x\r\n\r\n"],
    ["an HTTP/1.0 request with two Host lines", "GET / HTTP/1.0\r\nhost: x\r\nhost: y\r\n\r\n"],
    ["a request whose Host is two", "GET / HTTP/1.1\r\nhost: x, y\r\n\r\n"],
    ["a request whose Host is a user's", "GET / HTTP/1.1\r\nhost: user@x\r\n\r\n"],
    ["a request whose Host is a path", "GET / HTTP/1.1\r\nhost: x/y\r\n\r\n"],
    ["a handshake of TLS", Buffer.from("160301020001000001fc0303", "hex")],
  ])("%s is answered with 400 and a JSON body", async (_name, bytes) => {
    const { port } = await openListener();
    const socket = connect(port, "127.0.0.1");
    socket.write(bytes);
    const [head, body] = (await everything(socket)).split("\r\n\r\n");
    expect(head).toMatch(/^HTTP\/1.1 400 [^]*content-type: application\/json/i);
    expect(head).toMatch(/connection: close/i);
    expect(body).toBe(badRequest);
  });

  test.each([["x"], ["x:80"], ["127.0.0.1:80"], ["[::1]:80"], ["a-b.c_d"], [""], ["x:"]])(
    "a request of the host %s is served",
    async (host) => {
      const { port } = await openListener();
      const socket = connect(port, "127.0.0.1");
      socket.write(`GET / HTTP/1.1\r\nhost: ${host}\r\nconnection: close\r\n\r\n`);
      expect(await everything(socket)).toMatch(/^HTTP\/1.1 200 /);
    },
  );

  test("an unknown method is answered with 501", async () => {
    const { port } = await openListener();
    const socket = connect(port, "127.0.0.1");
    socket.write("GET /first HTTP/1.1\r\nhost: x\r\n\r\n");
    await once(socket, "data");
    socket.write("ARCHIVE /x HTTP/1.1\r\nhost: x\r\n\r\n");
    const answer = await everything(socket);
    expect(answer).toMatch(/HTTP\/1.1 501 Not Implemented\r\n[^]*connection: close/i);
    expect(answer.endsWith(badRequest)).toBe(true);
  });

  test("ends its own HTTP/2 connection and no other", async () => {
    const { port } = await openListener();
    const session = connectHttp2(`http://127.0.0.1:${port}`);
    const socket = connect(port, "127.0.0.1");
    socket.write(Buffer.concat([preface, Buffer.alloc(1000, "nonsense")]));
    await everything(socket);
    expect(await getHttp2(session, "/other")).toBe("HTTP/2.0 /other");
  });

  test("is not answered in the middle of another response", async () => {
    const { port, held } = await openListener();
    const socket = connect(port, "127.0.0.1");
    socket.write("POST /hold HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n");
    ((await held()) as ServerResponse).write("begun");
    await once(socket, "data");
    socket.write("no chunk\r\n");
    expect(await everything(socket)).toBe("");
  });
});

describe("a connection that is reset", () => {
  test.each([
    ["within the preface", "PRI * HT", false],
    ["within the headers", "GET / HTTP/1.1\r\nhost", false],
    ["within the body", "POST /hold HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\nhalf", true],
    ["as HTTP/2", Buffer.concat([preface, emptySettings]), false],
  ])("%s does not affect other connections", async (_name, bytes, isHeld) => {
    const { port, held } = await openListener();
    const socket = connect(port, "127.0.0.1");
    await new Promise((done) => socket.write(bytes, done));
    // This response arrives after the server has read from the first connection.
    await text(await get(port, "/another"));
    const response = isHeld ? await held() : undefined;
    const closed = response && new Promise<void>((done) => response.on("close", done));
    socket.resetAndDestroy();
    await closed;
    expect(await text(await get(port, "/other"))).toBe("HTTP/1.1 /other");
  });
});

test("an HTTP/1.1 response that an unauthenticated client does not read ends at the time limit of a call", async () => {
  const unauthenticated = createUnauthenticatedConnections({ maxConnections: 10, maxStreams: 10, streamMs: 200 });
  const { port, held } = await openListener({ unauthenticated });
  const socket = connect(port, "127.0.0.1").on("error", () => undefined);
  socket.pause().write("GET /hold HTTP/1.1\r\nhost: x\r\n\r\n");
  const response = await held();
  response.end("x".repeat(50_000_000));
  await once(response, "close");
  expect(socket.bytesRead).toBeLessThan(50_000_000);
  socket.destroy();
});
