import { once } from "node:events";
import { connect } from "node:net";
import { Code, ConnectError } from "@connectrpc/connect";
import { afterEach, expect, test } from "vitest";
import { createFixtureGateway, type FixtureServer, type Implementation, startFixture } from "./fixture.ts";

let server: FixtureServer;
const start = async (implementation: Implementation = {}) => {
  server = await startFixture(implementation);
  return server;
};
afterEach(() => server?.stop());

test.each([
  ["UnknownVariable", /has no field nothing/],
  ["MessageVariable", /path variable nested is no single value/],
  ["RepeatedVariable", /path variable texts is no single value/],
  ["UnknownBody", /has no field nothing/],
  ["Conflicting", /matches the same requests as/],
  ["Uploading", /a stream of requests cannot be bound/],
  ["Pageless", /needs exactly one list/],
])("a gateway of the service %s is not built", (name, message) => {
  expect(() => createFixtureGateway(name)).toThrow(message);
});

test("answers 404, 405 with Allow, and OPTIONS", async () => {
  const { call } = await start();
  expect((await call("GET", "/nothing/at/all")).status).toBe(404);
  const wrong = await call("POST", "/query", {});
  expect([wrong.status, wrong.headers.get("allow")]).toEqual([405, "GET, HEAD, OPTIONS"]);
  const options = await call("OPTIONS", "/query");
  expect([options.status, options.headers.get("allow")]).toEqual([204, "GET, HEAD, OPTIONS"]);
});

test("serves verbs, methods of its own kind, parts of answers and HEAD", async () => {
  const { call } = await start({
    cancel: async (request) => ({ ...request, number: 7 }),
    inner: async (request) => ({ ...request, nested: { $typeName: "fixture.Nested", text: "in" } }),
  });
  expect((await call("POST", "/single/a:cancel", {})).body).toMatchObject({ text: "a", number: 7 });
  expect((await call("PURGE", "/custom")).status).toBe(200);
  expect((await call("GET", "/inner")).body).toEqual({ text: "in", maybe: null });
  const head = await call("HEAD", "/query?text=a");
  expect([head.status, head.body]).toEqual([200, ""]);
  expect(Number(head.headers.get("content-length"))).toBeGreaterThan(10);
});

test("a handler's headers and its error reach the caller", async () => {
  const { call } = await start({
    query: async (request, { responseHeader }) => {
      responseHeader.set("x-seen", request.text);
      if (request.text === "bad") throw new ConnectError("no", Code.InvalidArgument);
      return request;
    },
  });
  expect((await call("GET", "/query?text=a")).headers.get("x-seen")).toBe("a");
  const bad = await call("GET", "/query?text=bad");
  expect([bad.status, bad.body.message, bad.headers.get("x-seen")]).toEqual([400, "no", "bad"]);
});

test("the error of a body field is told with the field that the body is", async () => {
  const { call } = await start();
  const { body } = await call("PUT", "/single/a", { unknown: 1 });
  expect(body).toMatchObject({ fields: ["unknown"], body_field: "nested" });
});

test("a file has its own type, headers and bytes", async () => {
  const data = Uint8Array.from([0, 255, 10, 13]);
  const file = { $typeName: "google.api.HttpBody", contentType: "image/png", data, extensions: [] };
  const { url } = await start({
    file: async (_request, { responseHeader }) => {
      responseHeader.set("content-disposition", 'attachment; filename="a.png"');
      return file;
    },
    chunks: async function* () {
      yield file;
      yield { ...file, contentType: "" };
    },
  });
  const whole = await fetch(`${url}/file`);
  expect(whole.headers.get("content-type")).toBe("image/png");
  expect(whole.headers.get("content-disposition")).toBe('attachment; filename="a.png"');
  expect(new Uint8Array(await whole.arrayBuffer())).toEqual(data);
  const chunks = await fetch(`${url}/chunks`);
  expect(new Uint8Array(await chunks.arrayBuffer())).toEqual(Uint8Array.from([...data, ...data]));
});

const item = (text: string) => ({ $typeName: "fixture.Nested", text });
const page = (texts: string[], rest: { last?: string; total?: number } = {}) => ({
  $typeName: "fixture.Page",
  items: texts.map((text) => item(text)),
  last: "",
  total: 0,
  ...rest,
});

test.each([
  ["nothing", []],
  ["an empty page", [page([])]],
  ["one page", [page(["a", "b"], { total: 2 })]],
  ["totals before the items", [page([], { total: 2 }), page(["a"]), page(["b"])]],
  [
    "totals between and after, where the last counts",
    [page(["a"], { total: 1 }), page([]), page(["b"], { total: 2, last: "z" })],
  ],
])("a stream of %s is one JSON object, its merge", async (_what, pages) => {
  const { call } = await start({
    pages: async function* () {
      yield* pages;
    },
  });
  const { status, body } = await call("GET", "/pages");
  const texts = pages.flatMap(({ items }) => items.map(({ text }) => text));
  const total = pages.reduce((before, one) => one.total || before, 0);
  expect(status).toBe(200);
  expect(body.items).toEqual(texts.map((text) => ({ text, maybe: null })));
  expect(body.total ?? 0).toBe(total);
});

test("an error before the first items has its status, one after them cuts the connection", async () => {
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

test("a slow reader holds up the pages, not the memory; one who leaves ends them", async () => {
  let made = 0;
  let ended: () => void;
  const end = new Promise<void>((done) => {
    ended = done;
  });
  const texts = Array.from({ length: 100 }, () => "x".repeat(1000));
  const { url } = await start({
    pages: async function* (_request, { signal }) {
      try {
        for (;;) {
          made += 1;
          yield page(texts);
        }
      } finally {
        if (signal.aborted) ended();
      }
    },
  });
  const { hostname, port } = new URL(url);
  const socket = connect(Number(port), hostname);
  socket.write("GET /pages HTTP/1.1\r\nhost: x\r\n\r\n");
  await once(socket, "readable");
  // The system's buffers take some; when nothing more is made, the handler waits for the reader.
  let before = -1;
  await expect.poll(() => before === (before = made), { interval: 300, timeout: 15_000 }).toBe(true);
  expect(made).toBeLessThan(300);
  socket.destroy();
  await end;
});

test("a deadline of the caller ends the call", async () => {
  const { call } = await start({
    query: (_request, { signal }) =>
      new Promise((_done, fail) => {
        signal.addEventListener("abort", () => fail(signal.reason as Error));
      }),
  });
  const { body } = await call("GET", "/query", undefined, { "connect-timeout-ms": "50" });
  expect(body.message).toBe("the deadline has passed");
});
