import { once } from "node:events";
import { type ClientHttp2Session, connect, createServer, type Http2Server, type OutgoingHttpHeaders } from "node:http2";
import type { AddressInfo } from "node:net";
import { Code, ConnectError } from "@connectrpc/connect";
import { afterEach, beforeEach, expect, test } from "vitest";
import { createFixtureGateway, file, type Implementation, page } from "./fixture.ts";

const handledTexts: string[] = [];
const implementation: Implementation = {
  query: async (request, { responseHeader }) => {
    responseHeader.set("connection", "close");
    responseHeader.set("x-kept", "yes");
    return request;
  },
  cancel: async (request) => {
    handledTexts.push(request.text);
    return request;
  },
  pages: async function* ({ number }) {
    for (let made = 0; made < 3; made += 1) yield page(["a"]);
    if (number === 1) throw new ConnectError("late", Code.Internal);
  },
  file: async () => file("text/plain", Buffer.from("text")),
};

let server: Http2Server;
let session: ClientHttp2Session;
beforeEach(async () => {
  server = createServer(createFixtureGateway("EchoService", implementation));
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  session = connect(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
});
afterEach(() => {
  session.destroy();
  server.close();
});

test("answers an unknown HTTP method with 501, and one that the path lacks with 405", async () => {
  expect((await call({ ":path": "/query", ":method": "BREW" })).headers[":status"]).toBe(501);
  expect((await call({ ":path": "/whatever", ":method": "BREW" })).headers[":status"]).toBe(501);
  expect((await call({ ":path": "/query", ":method": "DELETE" })).headers[":status"]).toBe(405);
});

test("responds as over HTTP/1.1, without headers that HTTP/2 forbids", async () => {
  const { headers, text } = await call({ ":path": "/query?text=a" });
  expect([headers[":status"], headers["x-kept"], headers.connection]).toEqual([200, "yes", undefined]);
  expect(JSON.parse(text)).toMatchObject({ text: "a" });
});

test("reads a body without Content-Length", async () => {
  const { text } = await call({ ":path": "/single/a", ...post }, '{"number":5}');
  expect(JSON.parse(text)).toMatchObject({ text: "a", number: 5 });
});

test("refuses a body without Content-Length when the operation has none", async () => {
  expect((await call({ ":path": "/query" }, "{}")).headers[":status"]).toBe(400);
  expect((await call({ ":path": "/query" }, "")).headers[":status"]).toBe(200);
});

test.each(["/query", "/pages", "/file"])("HEAD %s has no body and completes", async (path) => {
  const { headers, text } = await call({ ":path": path, ":method": "HEAD" });
  expect([headers[":status"], text]).toEqual([200, ""]);
});

test("a response that fails midway resets the stream", async () => {
  expect(JSON.parse((await call({ ":path": "/pages" })).text).items).toHaveLength(3);
  await expect(call({ ":path": "/pages?number=1" })).rejects.toThrow(/INTERNAL_ERROR/);
});

test("a body beyond the limit is a 413, and its stream is closed while the caller sends", async () => {
  const stream = session.request({ ":path": "/single/a", ...post });
  const aborted = once(stream, "aborted");
  for (let sent = 0; sent < 50; sent += 1) stream.write("x".repeat(32_768));
  const [headers] = await once(stream, "response");
  expect(headers[":status"]).toBe(413);
  stream.resume();
  // Only RST_STREAM of the server stops the caller.
  await aborted;
});

test("a canceled body does not reach the handler", async () => {
  const closed = new Promise((done) => {
    server.once("stream", (stream) => stream.once("close", done));
  });
  const stream = session.request({ ":path": "/single/cut:cancel", ...post });
  stream.on("error", () => undefined);
  stream.write("{}");
  await new Promise<void>((done) => session.ping(() => done()));
  stream.close(8);
  await closed;
  await call({ ":path": "/single/whole:cancel", ...post }, "{}");
  expect(handledTexts).toEqual(["whole"]);
});

const post = { ":method": "POST", "content-type": "application/json" };

async function call(headers: OutgoingHttpHeaders, body?: string) {
  const stream = session.request(headers, { endStream: body === undefined });
  if (body !== undefined) stream.end(body);
  let text = "";
  stream.setEncoding("utf8").on("data", (part: string) => {
    text += part;
  });
  const [[response]] = await Promise.all([once(stream, "response"), once(stream, "end")]);
  return { headers: response, text };
}
