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

test("answers an unknown path with 404, a wrong method with 405 and Allow, and OPTIONS with Allow", async () => {
  const { call } = await start();
  expect((await call("GET", "/nothing/at/all")).status).toBe(404);
  const wrong = await call("POST", "/query", {});
  expect([wrong.status, wrong.headers.get("allow")]).toEqual([405, "GET, HEAD, OPTIONS"]);
  const options = await call("OPTIONS", "/query");
  expect([options.status, options.headers.get("allow")]).toEqual([204, "GET, HEAD, OPTIONS"]);
});

test("OPTIONS * lists every method of the server", async () => {
  const { url } = await start();
  const response = await raw(url, "OPTIONS * HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
  expect(response).toMatch(/^HTTP\/1.1 204 [^]*\r\nallow: DELETE, GET, HEAD, OPTIONS, POST, PURGE, PUT\r\n/i);
  expect(await raw(url, "GET * HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")).toMatch(/^HTTP\/1.1 404 /);
});

test("a request target with a fragment is a 400", async () => {
  const { url } = await start();
  const get = (target: string) => raw(url, `GET ${target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n`);
  expect(await get("/single/a#frag")).toMatch(/^HTTP\/1.1 400 [^]*must not hold a fragment/);
  expect(await get("/query?text=a#frag")).toMatch(/^HTTP\/1.1 400 /);
  expect(await get("/single/a%23frag")).toMatch(/^HTTP\/1.1 200 [^]*"a#frag"/);
});

test("serves verbs, custom methods, response fields and HEAD", async () => {
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

test("sends a handler's headers and its error", async () => {
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

test("passes the name of the body field to describeError", async () => {
  const { call } = await start();
  const { body } = await call("PUT", "/single/a", { unknown: 1 });
  expect(body).toMatchObject({ fields: ["unknown"], body_field: "nested" });
});

test("sends a file with its type, length, headers and bytes", async () => {
  const data = Uint8Array.from([0, 255, 10, 13]);
  const { url } = await start({
    file: async (_request, { responseHeader }) => {
      responseHeader.set("content-disposition", 'attachment; filename="a.png"');
      return file("image/png", data);
    },
  });
  const { headers, ...response } = await fetch(`${url}/file`).then(async (received) => ({
    headers: Object.fromEntries(received.headers),
    bytes: new Uint8Array(await received.arrayBuffer()),
  }));
  expect(headers).toMatchObject({ "content-type": "image/png", "content-length": "4" });
  expect(headers["content-disposition"]).toBe('attachment; filename="a.png"');
  expect(response.bytes).toEqual(data);
});

test("ignores connection-specific headers of a handler", async () => {
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

test("sends every cookie of a handler", async () => {
  const { call } = await start({
    query: async (request, { responseHeader }) => {
      for (const cookie of ["a=1", "b=2"]) responseHeader.append("set-cookie", cookie);
      return request;
    },
  });
  expect((await call("GET", "/query")).headers.getSetCookie()).toEqual(["a=1", "b=2"]);
});

test("an error does not keep the content headers of the handler", async () => {
  const { call } = await start({
    file: async (_request, { responseHeader }) => {
      responseHeader.set("content-disposition", "attachment");
      throw new ConnectError("no", Code.NotFound);
    },
  });
  const { status, headers, body } = await call("GET", "/file");
  expect([status, headers.get("content-disposition"), body.message]).toEqual([404, null, "no"]);
});

test("an unexpected error of a handler is INTERNAL without its text", async () => {
  const { call } = await start({ query: () => Promise.reject(new Error("password of the database")) });
  const { status, body } = await call("GET", "/query");
  expect([status, body.message]).toEqual([500, "internal error"]);
});

test("an error that describeError cannot convert closes its own connection only", async () => {
  server = await startFixture(
    {},
    {
      describeError: () => {
        throw new Error("cannot describe");
      },
    },
  );
  await expect(server.call("GET", "/nothing/at/all")).rejects.toThrow();
  await expect(server.call("GET", "/query?unknown=1")).rejects.toThrow();
  expect((await server.call("GET", "/query")).status).toBe(200);
});

test("refuses an unauthorized caller before it reads the body, and keeps the connection", async () => {
  server = await startFixture(
    {},
    {
      admit: async ({ requestHeader }) => {
        if (!requestHeader.has("authorization")) throw new ConnectError("no token", Code.Unauthenticated);
      },
    },
  );
  const { url } = server;
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  const refused = await send(url, agent, {}, "not JSON");
  const admitted = await send(url, agent, { authorization: "x" }, "{}");
  agent.destroy();
  expect([refused.status, admitted.status]).toEqual([401, 200]);
  expect(admitted.port).toBe(refused.port);
});

test("aborts the call when the caller disconnects", async () => {
  const reason = new Promise<unknown>((resolve) => {
    void start({
      query: (_request, { signal }) =>
        new Promise((_done, fail) => {
          leaving.abort();
          signal.addEventListener("abort", () => fail(signal.reason as Error));
          signal.addEventListener("abort", () => resolve(signal.reason));
        }),
    }).then(({ url }) => fetch(`${url}/query`, { signal: leaving.signal }).catch(() => undefined));
  });
  const leaving = new AbortController();
  expect(await reason).toMatchObject({ code: Code.Canceled });
});

test("ends the call at the caller's deadline", async () => {
  const { call } = await start({
    query: (_request, { signal }) =>
      new Promise((_done, fail) => {
        signal.addEventListener("abort", () => fail(signal.reason as Error));
      }),
  });
  const { body } = await call("GET", "/query", undefined, { "connect-timeout-ms": "50" });
  expect(body.message).toBe("the deadline has passed");
});

/** Sends bytes and returns the whole response. */
async function raw(url: string, bytes: string): Promise<string> {
  const socket = connect(Number(new URL(url).port), "127.0.0.1");
  socket.write(bytes);
  let response = "";
  for await (const chunk of socket) response += String(chunk);
  return response;
}

/** Sends a request over an agent's connection and returns the local port of that connection. */
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
