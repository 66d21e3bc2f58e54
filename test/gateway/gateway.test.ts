import { Agent, request as httpRequest } from "node:http";
import { type AddressInfo, connect } from "node:net";
import { Code, ConnectError } from "@connectrpc/connect";
import { afterEach, expect, test } from "vitest";
import { type FixtureServer, file, type Implementation, startFixture } from "./fixture.ts";

let server: FixtureServer;
const start = async (implementation: Implementation = {}) => {
  server = await startFixture(implementation);
  return server;
};
afterEach(() => server?.stop());

test("answers 404, 405 with Allow, and OPTIONS", async () => {
  const { call } = await start();
  expect((await call("GET", "/nothing/at/all")).status).toBe(404);
  const wrong = await call("POST", "/query", {});
  expect([wrong.status, wrong.headers.get("allow")]).toEqual([405, "GET, HEAD, OPTIONS"]);
  const options = await call("OPTIONS", "/query");
  expect([options.status, options.headers.get("allow")]).toEqual([204, "GET, HEAD, OPTIONS"]);
});

test("OPTIONS * names every method of the server", async () => {
  const { url } = await start();
  const answer = await raw(url, "OPTIONS * HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
  expect(answer).toMatch(/^HTTP\/1.1 204 [^]*\r\nallow: DELETE, GET, HEAD, OPTIONS, POST, PURGE, PUT\r\n/i);
  expect(await raw(url, "GET * HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")).toMatch(/^HTTP\/1.1 404 /);
});

test("a request target with a fragment is a 400", async () => {
  const { url } = await start();
  const answer = (target: string) => raw(url, `GET ${target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n`);
  expect(await answer("/single/a#frag")).toMatch(/^HTTP\/1.1 400 [^]*must not hold a fragment/);
  expect(await answer("/query?text=a#frag")).toMatch(/^HTTP\/1.1 400 /);
  expect(await answer("/single/a%23frag")).toMatch(/^HTTP\/1.1 200 [^]*"a#frag"/);
});

test("serves verbs, methods of its own kind, parts of answers and HEAD", async () => {
  const { call } = await start({
    cancel: async (request) => ({ ...request, number: 7 }),
    inner: async (request) => ({ ...request, nested: { $typeName: "fixture.Nested", text: "in" } }),
  });
  expect((await call("POST", "/single/a:cancel", {})).body).toMatchObject({ text: "a", number: 7 });
  expect((await call("PURGE", "/custom")).status).toBe(200);
  expect((await call("REPORT", "/whatever")).status).toBe(200);
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

test("a file has its own type, length, headers and bytes", async () => {
  const data = Uint8Array.from([0, 255, 10, 13]);
  const { url } = await start({
    file: async (_request, { responseHeader }) => {
      responseHeader.set("content-disposition", 'attachment; filename="a.png"');
      return file("image/png", data);
    },
  });
  const { headers, ...response } = await fetch(`${url}/file`).then(async (answer) => ({
    headers: Object.fromEntries(answer.headers),
    bytes: new Uint8Array(await answer.arrayBuffer()),
  }));
  expect(headers).toMatchObject({ "content-type": "image/png", "content-length": "4" });
  expect(headers["content-disposition"]).toBe('attachment; filename="a.png"');
  expect(response.bytes).toEqual(data);
});

test("what belongs to the connection is not for a handler to say", async () => {
  const { call } = await start({
    query: async (request, { responseHeader }) => {
      responseHeader.set("connection", "close");
      responseHeader.set("transfer-encoding", "chunked");
      return request;
    },
  });
  const { headers, body } = await call("GET", "/query?text=a");
  expect([headers.get("connection"), headers.get("transfer-encoding")]).toEqual(["keep-alive", null]);
  expect(body.text).toBe("a");
});

test("every cookie of a handler is sent", async () => {
  const { call } = await start({
    query: async (request, { responseHeader }) => {
      for (const cookie of ["a=1", "b=2"]) responseHeader.append("set-cookie", cookie);
      return request;
    },
  });
  expect((await call("GET", "/query")).headers.getSetCookie()).toEqual(["a=1", "b=2"]);
});

test("an error is not sent under what the handler said of its answer's content", async () => {
  const { call } = await start({
    file: async (_request, { responseHeader }) => {
      responseHeader.set("content-disposition", "attachment");
      throw new ConnectError("no", Code.NotFound);
    },
  });
  const { status, headers, body } = await call("GET", "/file");
  expect([status, headers.get("content-disposition"), body.message]).toEqual([404, null, "no"]);
});

test("what a handler throws that is no answer is INTERNAL and says nothing", async () => {
  const { call } = await start({ query: () => Promise.reject(new Error("password of the database")) });
  const { status, body } = await call("GET", "/query");
  expect([status, body.message]).toEqual([500, "internal error"]);
});

test("an error that cannot be told cuts its own connection and no other", async () => {
  server = await startFixture(
    {},
    {
      describeError: () => {
        throw new Error("cannot tell");
      },
    },
  );
  await expect(server.call("GET", "/nothing/at/all")).rejects.toThrow();
  await expect(server.call("GET", "/query?unknown=1")).rejects.toThrow();
  expect((await server.call("GET", "/query")).status).toBe(200);
});

test("who is not admitted is refused before the body is read, and may ask again on the same connection", async () => {
  server = await startFixture(
    {},
    {
      admit: async ({ requestHeader }) => {
        if (!requestHeader.has("authorization")) throw new ConnectError("who?", Code.Unauthenticated);
      },
    },
  );
  const { url } = server;
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  const refused = await send(url, agent, {}, "this is no JSON");
  const admitted = await send(url, agent, { authorization: "x" }, "{}");
  agent.destroy();
  expect([refused.status, admitted.status]).toEqual([401, 200]);
  expect(admitted.port).toBe(refused.port);
});

test("a caller who leaves aborts the call", async () => {
  const reasons = new Promise<unknown>((told) => {
    void start({
      query: (_request, { signal }) =>
        new Promise((_done, fail) => {
          leaving.abort();
          signal.addEventListener("abort", () => fail(signal.reason as Error));
          signal.addEventListener("abort", () => told(signal.reason));
        }),
    }).then(({ url }) => fetch(`${url}/query`, { signal: leaving.signal }).catch(() => undefined));
  });
  const leaving = new AbortController();
  expect(await reasons).toMatchObject({ code: Code.Canceled });
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

/** Sends bytes and returns all that comes back. */
async function raw(url: string, bytes: string): Promise<string> {
  const socket = connect(Number(new URL(url).port), "127.0.0.1");
  socket.write(bytes);
  let answer = "";
  for await (const chunk of socket) answer += String(chunk);
  return answer;
}

/** Sends a request over an agent's connection, and says which one that was. */
function send(url: string, agent: Agent, headers: Record<string, string>, body: string) {
  const options = { method: "POST", agent, headers: { "content-type": "application/json", ...headers } };
  return new Promise<{ status: number | undefined; port: number | undefined }>((done, fail) => {
    const request = httpRequest(`${url}/single/a`, options, (response) => {
      const { port } = response.socket.address() as AddressInfo;
      response.resume().once("end", () => done({ status: response.statusCode, port }));
    });
    request.once("error", fail).end(body);
  });
}
