import { connect as connectSocket } from "node:net";
import { Code, type ConnectError, createClient } from "@connectrpc/connect";
import { createConnectTransport, createGrpcTransport } from "@connectrpc/connect-node";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { ErrorInfoSchema } from "#gen/google/rpc/error_details_pb.js";
import { CompanyService } from "#gen/tollgate/v1/company_pb.js";
import { TracedataSchema } from "#gen/tollgate/v1/tracedata_pb.js";
import { UserService } from "#gen/tollgate/v1/user_pb.js";
import { reasons } from "../../src/shared/reasons.ts";
import { type CallOptions, startTestApp, type TestApp } from "../support/app.ts";

let app: TestApp;
let withoutRole: string;
beforeAll(async () => {
  app = await startTestApp({
    MAX_BODY_BYTES: "65536",
    LOGIN_FAILURES: "2",
    BODY_TIMEOUT_MS: "1000",
    DATABASE_TIMEOUT_MS: "2000",
  });
  withoutRole = await app.token(await app.user());
});
afterAll(() => app.stop());

interface Case {
  readonly status: number;
  readonly reason: keyof typeof reasons;
  readonly method: string;
  readonly path: string;
  readonly call?: () => CallOptions;
}

const asAdmin = (options: CallOptions = {}) => ({ token: app.admin, ...options });
const login = (body: object) => () => ({ body });

const cases: readonly Case[] = [
  { status: 400, reason: "INVALID_REQUEST", method: "GET", path: "/admin/users?limit=0", call: asAdmin },
  { status: 400, reason: "INVALID_REQUEST", method: "POST", path: "/admin/users", call: () => asAdmin({ body: "{" }) },
  { status: 401, reason: "TOKEN_MISSING", method: "GET", path: "/admin/users" },
  {
    status: 401,
    reason: "TOKEN_INVALID",
    method: "GET",
    path: "/admin/users",
    call: () => ({ token: "made.up.token" }),
  },
  {
    status: 401,
    reason: "WRONG_CREDENTIALS",
    method: "POST",
    path: "/admin/token/generation",
    call: login({ username: "stranger", password: "a wrong one" }),
  },
  { status: 403, reason: "ROLE_REQUIRED", method: "GET", path: "/admin/users", call: () => ({ token: withoutRole }) },
  { status: 404, reason: "NO_SUCH_PATH", method: "GET", path: "/admin/nothing", call: asAdmin },
  { status: 404, reason: "COMPANY_NOT_FOUND", method: "GET", path: "/admin/companies/missing", call: asAdmin },
  { status: 404, reason: "USER_NOT_FOUND", method: "GET", path: "/admin/users/missing", call: asAdmin },
  { status: 404, reason: "FILE_NOT_FOUND", method: "GET", path: "/admin/file/missing.html", call: asAdmin },
  { status: 405, reason: "HTTP_METHOD_NOT_ALLOWED", method: "PATCH", path: "/admin/system/version" },
  {
    status: 409,
    reason: "COMPANY_EXISTS",
    method: "POST",
    path: "/admin/companies",
    call: () => asAdmin({ body: { key: "administration" } }),
  },
  {
    status: 409,
    reason: "COMPANY_HAS_USERS",
    method: "DELETE",
    path: "/admin/companies/administration",
    call: asAdmin,
  },
  { status: 409, reason: "OWN_ACCOUNT", method: "DELETE", path: "/admin/users/admin", call: asAdmin },
  {
    status: 413,
    reason: "TOO_LARGE",
    method: "POST",
    path: "/admin/companies",
    call: () => asAdmin({ body: { key: "large", detail: "x".repeat(70_000) } }),
  },
  {
    status: 415,
    reason: "UNSUPPORTED_MEDIA_TYPE",
    method: "POST",
    path: "/admin/companies",
    call: () => asAdmin({ body: "key=large", headers: { "content-type": "text/plain" } }),
  },
];

describe("HTTP/JSON", () => {
  test.each(cases)("$status $reason: $method $path", async ({ status, reason, method, path, call }) => {
    const { status: given, body } = await app.http(method, path, call?.());
    const told = body.detail ?? body;
    expect([given, told.reason]).toEqual([status, reason]);
    expect(told.message).toBeTypeOf("string");
    expect(told.tracedata.code).toBeTypeOf("string");
    expect(reasons[reason].status).toBe(status);
  });

  test("429 LOGIN_LOCKED", async () => {
    const username = await app.user();
    const guess = () => app.http("POST", "/admin/token/generation", { body: { username, password: "a wrong one" } });
    await guess();
    await guess();
    const { status, body, headers } = await guess();
    expect([status, body.reason, Number(headers.get("retry-after")) > 0]).toEqual([429, "LOGIN_LOCKED", true]);
  });

  test("503 DATABASE_UNAVAILABLE, and 504 DEADLINE_EXCEEDED", async () => {
    const lock = await app.database.transaction();
    await lock.raw("lock table company in access exclusive mode");
    try {
      const read = (headers = {}) => app.http("GET", "/admin/companies/administration", asAdmin({ headers }));
      const late = await read({ "connect-timeout-ms": "200" });
      expect([late.status, late.body.reason]).toEqual([504, "DEADLINE_EXCEEDED"]);
      const given = await read();
      expect([given.status, given.body.reason]).toEqual([503, "DATABASE_UNAVAILABLE"]);
    } finally {
      await lock.rollback();
    }
    app.log.length = 0;
  });

  test("416 RANGE_NOT_SATISFIABLE", async () => {
    const service = await app.token(await app.user({ roles: ["BOT"] }));
    const path = "/admin/data/11111111-2222-3333-4444-555555555555";
    expect((await app.http("PUT", `${path}?username=admin`, { token: service, body: { kept: true } })).status).toBe(
      200,
    );
    const beyond = await app.http("GET", path, asAdmin({ headers: { range: "bytes=1000-" } }));
    expect([beyond.status, beyond.body.reason]).toEqual([416, "RANGE_NOT_SATISFIABLE"]);
  });

  test("412 PRECONDITION_FAILED", async () => {
    const headers = { "if-match": '"another version"' };
    const { status, body } = await app.http("GET", "/admin/file/admin_en.html", { headers });
    expect([status, body.reason]).toEqual([412, "PRECONDITION_FAILED"]);
  });

  test("500 INTERNAL, without a word of what broke", async () => {
    await app.database.raw("alter table company rename to broken_table");
    try {
      const { status, body } = await app.http("GET", "/admin/companies/administration", asAdmin());
      expect([status, body.reason]).toEqual([500, "INTERNAL"]);
      expect(JSON.stringify(body)).not.toMatch(/relation|table|select|does not exist/i);
    } finally {
      await app.database.raw("alter table broken_table rename to company");
    }
    app.log.length = 0;
  });

  test("499 CALLER_GONE, in the log alone", async () => {
    const lock = await app.database.transaction();
    await lock.raw("lock table company in access exclusive mode");
    try {
      const headers = { authorization: `Bearer ${app.admin}` };
      const signal = AbortSignal.timeout(200);
      await expect(fetch(`${app.url}/admin/companies/administration`, { headers, signal })).rejects.toThrow();
      await expect.poll(() => app.log.map(({ reason }) => reason)).toContain("CALLER_GONE");
    } finally {
      await lock.rollback();
    }
  });

  test.each([
    [
      "408",
      "BODY_TOO_SLOW",
      "POST /admin/token/generation HTTP/1.1\r\nHost: here\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{",
    ],
    ["501", "HTTP_METHOD_UNKNOWN", "BREW /admin/users HTTP/1.1\r\nHost: here\r\n\r\n"],
    ["400", "MALFORMED_HTTP", "nonsense\r\n\r\n"],
    ["431", "HEADERS_TOO_LARGE", `GET / HTTP/1.1\r\nHost: here\r\nX-Long: ${"x".repeat(100_000)}\r\n\r\n`],
  ])("%s %s, of bytes that make no request", async (status, reason, bytes) => {
    const text = await raw(bytes);
    expect(text.startsWith(`HTTP/1.1 ${status} `)).toBe(true);
    expect(JSON.parse(text.slice(text.indexOf("\r\n\r\n")))).toMatchObject({ reason });
  });

  test("405, 415 and 505 of RPCs over HTTP/1.1", async () => {
    const post = (path: string, type: string) =>
      fetch(`${app.url}${path}`, {
        method: "POST",
        headers: { "content-type": type, authorization: `Bearer ${app.admin}` },
        body: "x",
      });
    const wrongType = await post("/tollgate.v1.UserService/ReadUser", "text/plain");
    expect([wrongType.status, await wrongType.json()]).toMatchObject([415, { reason: "UNSUPPORTED_MEDIA_TYPE" }]);
    const both = await post("/tollgate.v1.QuotaService/AcquireQuotas", "application/connect+proto");
    expect([both.status, await both.json()]).toMatchObject([505, { reason: "HTTP_VERSION_NOT_SUPPORTED" }]);
    const got = await fetch(`${app.url}/tollgate.v1.UserService/CreateUser`);
    expect([got.status, await got.json()]).toMatchObject([405, { reason: "HTTP_METHOD_NOT_ALLOWED" }]);
  });
});

describe.each([
  ["gRPC", () => createGrpcTransport({ baseUrl: app.url })],
  ["Connect", () => createConnectTransport({ baseUrl: app.url, httpVersion: "1.1" })],
  ["Connect with JSON", () => createConnectTransport({ baseUrl: app.url, httpVersion: "2", useBinaryFormat: false })],
] as const)("%s", (_name, transport) => {
  const reasonOf = (call: Promise<unknown>) =>
    call.then(
      () => "no error",
      (error) =>
        error
          .findDetails(ErrorInfoSchema)
          .map(({ reason, domain }: { reason: string; domain: string }) => [reason, domain]),
    );

  test("each error has one reason, of our domain", async () => {
    const users = createClient(UserService, transport());
    const companies = createClient(CompanyService, transport());
    const headers = { authorization: `Bearer ${app.admin}` };
    const calls: [reason: keyof typeof reasons, call: () => Promise<unknown>][] = [
      ["TOKEN_MISSING", () => users.readUser({ username: "admin" })],
      ["INVALID_REQUEST", () => users.readUser({ username: "" }, { headers })],
      ["USER_NOT_FOUND", () => users.readUser({ username: "missing" }, { headers })],
      [
        "ROLE_REQUIRED",
        () => users.readUser({ username: "admin" }, { headers: { authorization: `Bearer ${withoutRole}` } }),
      ],
      [
        "TOO_LARGE",
        () => companies.createCompany({ company: { key: "large", detail: "x".repeat(70_000) } }, { headers }),
      ],
    ];
    for (const [reason, call] of calls) expect(await reasonOf(call())).toEqual([[reason, "tollgate"]]);
  });
});

test("Connect's own refusals have a reason: no message, and no message at all", async () => {
  const answer = await fetch(`${app.url}/tollgate.v1.UserService/ReadUser`, {
    method: "POST",
    headers: { "content-type": "application/proto", authorization: `Bearer ${app.admin}` },
    body: Buffer.from([0xff, 0xff]),
  });
  const { details } = (await answer.json()) as { details: { type: string; debug: object }[] };
  expect(details.find(({ type }) => type === "google.rpc.ErrorInfo")?.debug).toMatchObject({
    reason: "MALFORMED_MESSAGE",
    domain: "tollgate",
  });
});

test("JSON that Connect cannot read is refused with a reason of our domain", async () => {
  for (const body of ['{"nope":1}', '{"username":5}', "{"]) {
    const answer = await fetch(`${app.url}/tollgate.v1.UserService/ReadUser`, {
      method: "POST",
      headers: { "content-type": "application/json", authorization: `Bearer ${app.admin}` },
      body,
    });
    const { details } = (await answer.json()) as { details: { type: string; debug: object }[] };
    const info = details.find(({ type }) => type === "google.rpc.ErrorInfo");
    expect(info?.debug).toMatchObject({ reason: "INVALID_REQUEST", domain: "tollgate" });
  }
});

test("an RPC that the server does not have is UNIMPLEMENTED with a reason for gRPC callers", async () => {
  const transport = createGrpcTransport({ baseUrl: app.url });
  const unknown = { ...UserService.method.readUser, name: "Nope" };
  const error = await transport.unary(unknown, undefined, undefined, undefined, { username: "admin" }).then(
    () => undefined,
    (failure: ConnectError) => failure,
  );
  expect([error?.code, error?.findDetails(ErrorInfoSchema)[0]?.reason]).toEqual([Code.Unimplemented, "NO_SUCH_PATH"]);
  expect(error?.findDetails(TracedataSchema)).toHaveLength(1);
});

test("a refused call is logged by its reason", async () => {
  await app.http("GET", "/admin/users/missing", { token: app.admin });
  expect(app.log.at(-1)).toMatchObject({ msg: "call refused", reason: "USER_NOT_FOUND" });
});

/** Sends raw bytes, and returns the server's answer. Closes the connection first: the server may wait for the rest. */
function raw(bytes: string): Promise<string> {
  return new Promise((done, fail) => {
    const socket = connectSocket(Number(new URL(app.url).port), "127.0.0.1", () => socket.write(bytes));
    let text = "";
    socket.setEncoding("utf8").on("data", (chunk: string) => {
      text += chunk;
      const [head = "", body = ""] = text.split("\r\n\r\n");
      const [, length] = /^content-length: (\d+)$/im.exec(head) ?? [];
      if (length !== undefined && Buffer.byteLength(body) === Number(length)) socket.destroy();
    });
    socket.once("close", () => done(text)).once("error", fail);
  });
}
