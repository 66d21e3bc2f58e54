import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { Code, ConnectError } from "@connectrpc/connect";
import { afterEach, expect, test } from "vitest";
import { type FixtureServer, file, type Implementation, page, startFixture } from "./fixture.ts";

let server: FixtureServer;
const start = async (implementation: Implementation) => {
  server = await startFixture(implementation);
  return server;
};
afterEach(() => server.stop());

test.each([
  ["nothing", []],
  ["an empty page", [page([])]],
  ["one page", [page(["a", "b"], { total: 2 })]],
  ["totals before the items", [page([], { total: 2 }), page(["a"]), page(["b"])]],
  ["totals between and after the items", [page(["a"], { total: 1 }), page([]), page(["b"], { total: 2, last: "z" })]],
])("merges a stream of %s into one JSON object", async (_what, pages) => {
  const { call } = await start({
    pages: async function* () {
      yield* pages;
    },
  });
  const { status, body } = await call("GET", "/pages");
  const texts = pages.flatMap(({ items }) => items.map(({ text }) => text));
  expect(status).toBe(200);
  expect(body).toEqual({
    items: texts.map((text) => ({ text, maybe: null })),
    last: pages.reduce((before, each) => each.last || before, ""),
    total: pages.reduce((before, each) => each.total || before, 0),
  });
});

test("a single page has a Content-Length, several pages are chunked", async () => {
  const { call } = await start({
    pages: async function* ({ number }) {
      for (let made = 0; made < number; made += 1) yield page(["a"]);
    },
  });
  const single = await call("GET", "/pages?number=1");
  expect(single.headers.get("content-length")).toBe(String(JSON.stringify(single.body).length));
  const chunked = await call("GET", "/pages?number=2");
  expect([chunked.headers.get("content-length"), chunked.headers.get("transfer-encoding")]).toEqual([null, "chunked"]);
});

test("an error before the first items sets the status, a later one cuts the connection", async () => {
  const { call, url } = await start({
    pages: async function* ({ number }) {
      yield page([], { total: 5 });
      if (number === 1) throw new ConnectError("early", Code.InvalidArgument);
      yield page(["a"]);
      yield page(["b"]);
      throw new ConnectError("late", Code.InvalidArgument);
    },
  });
  expect((await call("GET", "/pages?number=1")).status).toBe(400);
  await expect(fetch(`${url}/pages?number=2`).then((response) => response.text())).rejects.toThrow();
});

test("joins the chunks of a file, with the type of the first chunk", async () => {
  const data = Uint8Array.from([0, 255, 10, 13]);
  const { url } = await start({
    chunks: async function* () {
      yield file("image/png", data);
      yield file("", data);
    },
  });
  const response = await fetch(`${url}/chunks`);
  expect(response.headers.get("content-type")).toBe("image/png");
  expect(new Uint8Array(await response.arrayBuffer())).toEqual(Uint8Array.from([...data, ...data]));
});

test("a file without chunks keeps the handler's headers", async () => {
  const { call } = await start({
    chunks: async function* (_request, { responseHeader }) {
      responseHeader.set("content-disposition", "attachment");
      yield* [];
    },
  });
  const { status, headers, body } = await call("GET", "/chunks");
  expect([status, headers.get("content-disposition"), body]).toEqual([200, "attachment", ""]);
});

const text = "x".repeat(100_000);

test.each([
  ["pages", () => page([text])],
  ["chunks", () => file("text/plain", Buffer.from(text))],
])("a slow reader pauses the %s, and a reader that leaves ends them", async (name, make) => {
  const endless = countedStream(make);
  const { url } = await start({ [name]: endless.handler });
  const socket = open(url, `GET /${name}`);
  await once(socket, "readable");
  // The system's buffers accept some data. When the count stops, the handler waits for the reader.
  let before = -1;
  await expect.poll(() => before === (before = endless.made()), { interval: 300, timeout: 15_000 }).toBe(true);
  expect(endless.made()).toBeLessThan(300);
  socket.destroy();
  expect(await endless.ended).toBe(true);
});

test("a reader that leaves ends a stream that sends nothing", async () => {
  const endless = countedStream(() => page([]));
  const { url } = await start({ pages: endless.handler });
  const socket = open(url, "GET /pages");
  await expect.poll(() => endless.made()).toBeGreaterThan(1);
  socket.destroy();
  expect(await endless.ended).toBe(true);
});

test.each([
  ["pages", () => page(["a"])],
  ["chunks", () => file("text/plain", Buffer.from("a"))],
])("HEAD returns the headers of endless %s and ends them", async (name, make) => {
  const endless = countedStream(make);
  const { call } = await start({ [name]: endless.handler });
  const { status, body } = await call("HEAD", `/${name}`);
  expect([status, body]).toEqual([200, ""]);
  await endless.ended;
  expect(endless.made()).toBeLessThan(4);
});

/** Creates a handler that never ends by itself. `ended` resolves with whether its signal was aborted. */
function countedStream(make: () => unknown) {
  let made = 0;
  let end: (aborted: boolean) => void;
  const ended = new Promise<boolean>((done) => {
    end = done;
  });
  const handler: Implementation[string] = async function* (_request, { signal }) {
    try {
      for (;;) {
        made += 1;
        yield make();
        await new Promise((done) => setImmediate(done));
      }
    } finally {
      end(signal.aborted);
    }
  };
  return { handler, ended, made: () => made };
}

function open(url: string, request: string): Socket {
  const { hostname, port } = new URL(url);
  const socket = connect(Number(port), hostname);
  socket.write(`${request} HTTP/1.1\r\nhost: x\r\n\r\n`);
  return socket;
}

test("If-None-Match with the ETag is a 304 without a body, and HEAD ignores Range", async () => {
  const ranges: (string | null)[] = [];
  const tagged = await startFixture({
    async *chunks(_request, { requestHeader, responseHeader }) {
      ranges.push(requestHeader.get("range"));
      responseHeader.set("etag", '"abc"');
      responseHeader.set("content-length", "1");
      yield file("text/plain", Buffer.from("x"));
    },
  });
  const get = async (condition: string) => {
    const response = await fetch(`${tagged.url}/chunks`, { headers: { "if-none-match": condition } });
    return [response.status, response.headers.get("etag"), await response.text()];
  };
  for (const condition of ['"abc"', 'W/"abc"', '"x", "abc"', "*"]) {
    expect(await get(condition)).toEqual([304, '"abc"', ""]);
  }
  expect(await get('"abcd"')).toEqual([200, '"abc"', "x"]);
  ranges.length = 0;
  for (const method of ["GET", "HEAD"])
    await fetch(`${tagged.url}/chunks`, { method, headers: { range: "bytes=0-0" } });
  expect(ranges).toEqual(["bytes=0-0", null]);
  await tagged.stop();
});
