import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { connect } from "node:http2";
import { connect as connectSocket } from "node:net";
import { create, fromBinary, fromJson, toBinary } from "@bufbuild/protobuf";
import { Code, ConnectError, createClient, type Transport } from "@connectrpc/connect";
import { encodeEnvelope } from "@connectrpc/connect/protocol";
import { trailerParse } from "@connectrpc/connect/protocol-grpc-web";
import {
  compressionGzip,
  createConnectTransport,
  createGrpcTransport,
  createGrpcWebTransport,
} from "@connectrpc/connect-node";
import { Client, credentials, Metadata, type ServiceError } from "@grpc/grpc-js";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import {
  BadRequestSchema,
  ErrorInfoSchema,
  ResourceInfoSchema,
  RetryInfoSchema,
} from "#gen/google/rpc/error_details_pb.js";
import { StatusSchema } from "#gen/google/rpc/status_pb.js";
import { CompanyService } from "#gen/tollgate/v1/company_pb.js";
import { StatisticsService } from "#gen/tollgate/v1/statistics_pb.js";
import { AuthService } from "#gen/tollgate/v1/token_pb.js";
import { TracedataSchema } from "#gen/tollgate/v1/tracedata_pb.js";
import { ReadUserRequestSchema, ReadUsersResponseSchema, UserService } from "#gen/tollgate/v1/user_pb.js";
import type { Transaction } from "../../src/postgres/database.ts";
import { startTestApp, type TestApp } from "../support/app.ts";

let app: TestApp;
beforeAll(async () => {
  app = await startTestApp({ MAX_BODY_BYTES: "65536", LOGIN_FAILURES: "2" });
});
afterAll(() => app.stop());

const bearer = () => ({ authorization: `Bearer ${app.admin}` });
const transports: [string, () => Transport][] = [
  ["gRPC", () => createGrpcTransport({ baseUrl: app.url })],
  [
    "gRPC with compression",
    () => createGrpcTransport({ baseUrl: app.url, sendCompression: compressionGzip, compressMinBytes: 0 }),
  ],
  ["gRPC-Web", () => createGrpcWebTransport({ baseUrl: app.url, httpVersion: "1.1" })],
  ["Connect over HTTP/1.1", () => createConnectTransport({ baseUrl: app.url, httpVersion: "1.1" })],
  ["Connect over HTTP/2", () => createConnectTransport({ baseUrl: app.url, httpVersion: "2" })],
  ["Connect with JSON", () => createConnectTransport({ baseUrl: app.url, httpVersion: "1.1", useBinaryFormat: false })],
];

async function failure(call: Promise<unknown>): Promise<ConnectError> {
  const outcome = await call.then(
    () => "no failure",
    (error: unknown) => error,
  );
  if (outcome instanceof ConnectError) return outcome;
  throw new Error(`expected a failure: ${String(outcome)}`);
}

/** Whether the log shows that a call was cut off, by its deadline or by the disconnect of the caller. */
function cutOff(of: string): boolean {
  return app.log.some(({ operation, outcome }) => operation === of && /DeadlineExceeded|Canceled/.test(outcome));
}

async function waitingFor(lock: Transaction, table: string): Promise<number> {
  const { rows } = await lock.raw(
    `select 1 from pg_locks join pg_database on pg_database.oid = database
     where datname = current_database() and relation = ?::regclass and not granted
       -- Of readers: the roll-up may wait too.
       and mode = 'AccessShareLock'`,
    [table],
  );
  return rows.length;
}

/** Long enough for a call to reach its query. */
const deadlineMs = 250;

const period = { from: "2026-11-01", to: "2026-11-30" };

/** Returns the number of queries that still run 3 seconds after their caller has disconnected. */
async function leftBehind(read: (signal: AbortSignal) => Promise<unknown>): Promise<number> {
  const lock = await app.database.transaction();
  const waiting = () => waitingFor(lock, "usage_day");
  const caller = new AbortController();
  try {
    await lock.raw("lock table usage_day in access exclusive mode");
    const reading = failure(read(caller.signal).catch((error: unknown) => Promise.reject(ConnectError.from(error))));
    await expect.poll(waiting, { timeout: 4000 }).toBe(1);
    caller.abort();
    await reading;
    return await vi.waitUntil(async () => (await waiting()) === 0, { timeout: 3000 }).then(() => 0, waiting);
  } finally {
    await lock.rollback();
  }
}

const ruleOfNames = "must contain only letters (a to z, A to Z), digits and underscores";

describe.each(transports)("%s", (_name, transport) => {
  const users = () => createClient(UserService, transport());
  const companies = () => createClient(CompanyService, transport());

  test("changes and reads the same data as HTTP/JSON", async () => {
    const key = `transport_${randomUUID().replaceAll("-", "")}`;
    const created = await companies().createCompany(
      { company: { key, detail: "by another transport" } },
      { headers: bearer() },
    );
    expect(created.company).toMatchObject({ key, detail: "by another transport" });
    expect((await app.http("GET", `/admin/companies/${key}`, { token: app.admin })).body).toEqual({
      key,
      detail: "by another transport",
    });
  });

  test("accepts a deadline longer than the maximum of a timer", async () => {
    const headers = { ...bearer(), "grpc-timeout": "99999999H", "connect-timeout-ms": "2147483648" };
    // A timer that overflows fires after 1 ms. A single response may be faster, so the test sends 20 requests.
    for (let calls = 0; calls < 20; calls += 1) {
      expect(await users().readUser({ username: "admin" }, { headers })).toMatchObject({ user: { username: "admin" } });
    }
  });

  test("streams a list in pages that merge to the unary response", async () => {
    const usernames: string[] = [];
    let total = 0;
    for await (const page of users().readUsers({}, { headers: bearer() })) {
      usernames.push(...page.users.map(({ username }) => username));
      total = page.statistics?.overall?.total ?? total;
    }
    expect(usernames).toContain("admin");
    expect(total).toBe(usernames.length);
  });

  test("names the field and the rule, and carries tracedata", async () => {
    const code = randomUUID();
    const request = { username: "x", companyKey: "a company", roles: [], timezone: 99 };
    const error = await failure(users().createUser({ user: request }, { headers: { ...bearer(), tracecode: code } }));
    expect(error.code).toBe(Code.InvalidArgument);
    const fields = error
      .findDetails(BadRequestSchema)
      .flatMap(({ fieldViolations }) => fieldViolations.map(({ field }) => field));
    expect(fields.toSorted()).toEqual(["user.company_key", "user.timezone", "user.username"]);
    expect(error.rawMessage).toContain(`user.company_key: ${ruleOfNames}`);
    const [tracedata] = error.findDetails(TracedataSchema);
    expect(tracedata).toMatchObject({
      code,
      client: "administration_|_admin",
      server: "test_server",
      operation: "create_user",
    });
  });

  test("gives each refusal its code and its details", async () => {
    const anonymous = await failure(users().readUser({ username: "admin" }));
    expect(anonymous.code).toBe(Code.Unauthenticated);
    expect(anonymous.findDetails(TracedataSchema)[0]?.client).toBe("_|_");
    const missing = await failure(users().readUser({ username: "missing" }, { headers: bearer() }));
    expect([missing.code, missing.findDetails(ResourceInfoSchema)[0]?.resourceName]).toEqual([
      Code.NotFound,
      "missing",
    ]);
    const taken = await failure(
      companies().createCompany({ company: { key: "administration" } }, { headers: bearer() }),
    );
    expect(taken.code).toBe(Code.AlreadyExists);
    const own = await failure(users().deleteUser({ username: "admin" }, { headers: bearer() }));
    expect([own.code, own.findDetails(ErrorInfoSchema)[0]?.reason]).toEqual([Code.FailedPrecondition, "OWN_ACCOUNT"]);
  });

  test("returns the tracecode in the headers", async () => {
    const code = randomUUID();
    let returned: string | null = null;
    const onHeader = (headers: Headers) => {
      returned = headers.get("tracecode");
    };
    await users().readUser({ username: "admin" }, { headers: { ...bearer(), tracecode: code }, onHeader });
    expect(returned).toBe(code);
  });

  test("states when to retry", async () => {
    const username = await app.user();
    const auth = createClient(AuthService, transport());
    const guess = () => failure(auth.createToken({ username, password: "wrong password" }));
    expect([(await guess()).code, (await guess()).code]).toEqual([Code.Unauthenticated, Code.Unauthenticated]);
    const slowed = await guess();
    expect(slowed.code).toBe(Code.ResourceExhausted);
    expect(Number(slowed.findDetails(RetryInfoSchema)[0]?.retryDelay?.seconds)).toBeGreaterThan(800);
  });

  test("ends at the caller's deadline while the query still runs", async () => {
    const lock = await app.database.transaction();
    await lock.raw("lock table company in access exclusive mode");
    const late = companies().readCompany({ key: "administration" }, { headers: bearer(), timeoutMs: deadlineMs });
    // The query itself would time out after five seconds, with UNAVAILABLE.
    expect((await failure(late)).code).toBe(Code.DeadlineExceeded);
    try {
      await expect.poll(() => cutOff("read_company"), { timeout: 3000 }).toBe(true);
    } finally {
      await lock.rollback();
    }
    app.log.length = 0;
  });

  test("ends a list at the caller's deadline while the query still runs", async () => {
    const lock = await app.database.transaction();
    await lock.raw("lock table company in access exclusive mode");
    const read = async () => {
      for await (const _page of companies().readCompanies({}, { headers: bearer(), timeoutMs: deadlineMs }));
    };
    try {
      expect((await failure(read())).code).toBe(Code.DeadlineExceeded);
      await expect.poll(() => cutOff("read_companies"), { timeout: 3000 }).toBe(true);
    } finally {
      await lock.rollback();
    }
    app.log.length = 0;
  });

  test("cancels the query of a caller who disconnects", async () => {
    const statistics = createClient(StatisticsService, transport());
    const read = async (signal: AbortSignal) => {
      for await (const _page of statistics.readStatistics(period, { headers: bearer(), signal }));
    };
    expect(await leftBehind(read)).toBe(0);
  });

  test("ends at the caller's deadline during authentication", async () => {
    const username = await app.user();
    const headers = { authorization: `Bearer ${await app.token(username)}` };
    const lock = await app.database.transaction();
    await lock.raw("lock table user_account in access exclusive mode");
    try {
      const late = users().readUser({ username }, { headers, timeoutMs: deadlineMs });
      expect((await failure(late)).code).toBe(Code.DeadlineExceeded);
      await expect.poll(() => cutOff("read_user"), { timeout: 3000 }).toBe(true);
    } finally {
      await lock.rollback();
    }
    app.log.length = 0;
  });

  test("refuses a message beyond the size limit", async () => {
    const error = await failure(
      companies().createCompany({ company: { key: "large", detail: "x".repeat(70_000) } }, { headers: bearer() }),
    );
    expect(error.code).toBe(Code.ResourceExhausted);
    expect(error.findDetails(TracedataSchema)[0]).toMatchObject({ operation: "create_company" });
  });
});

test("HTTP/JSON ends a list at the caller's deadline while the query still runs", async () => {
  const lock = await app.database.transaction();
  await lock.raw("lock table company in access exclusive mode");
  try {
    const { status, body } = await app.http("GET", "/admin/companies", {
      token: app.admin,
      headers: { "connect-timeout-ms": String(deadlineMs) },
    });
    expect([status, body.message]).toEqual([504, "the deadline has passed"]);
    // The caller no longer waits, and the query has not timed out yet.
    expect(await waitingFor(lock, "company")).toBeGreaterThan(0);
  } finally {
    await lock.rollback();
  }
});

test("HTTP/JSON cancels the query of a caller who disconnects", async () => {
  const path = `/admin/statistics?from=${period.from}&to=${period.to}`;
  expect(await leftBehind((signal) => fetch(`${app.url}${path}`, { headers: bearer(), signal }))).toBe(0);
});

describe("a refusal by Connect itself carries tracedata and is logged", () => {
  const garbage = Buffer.from([0xff, 0xff, 0xff]);
  const enveloped = Buffer.concat([Buffer.from([0, 0, 0, 0, garbage.length]), garbage]);
  const post = (type: string, body: string | Uint8Array, token: string | undefined = app.admin) =>
    fetch(`${app.url}/tollgate.v1.UserService/ReadUser`, {
      method: "POST",
      headers: { "content-type": type, ...(token !== "" && { authorization: `Bearer ${token}` }) },
      body,
    });
  const logged = (tracecode: string | null) =>
    app.log.some((line) => line.tracecode === tracecode && /refused/.test(line.msg));

  test.each<[string, string, string | Uint8Array, RegExp]>([
    ["an unknown field", "application/json", '{"user_name":"admin"}', /user_name/],
    ["no JSON", "application/json", "{", /JSON/],
    ["no message", "application/proto", garbage, /./],
  ])("Connect: %s", async (_what, type, body, text) => {
    const answer = await post(type, body);
    const tracecode = answer.headers.get("tracecode");
    const told = (await answer.json()) as { code: string; message: string; details: { type: string; value: string }[] };
    expect([answer.status, told.code]).toEqual([400, "invalid_argument"]);
    expect(told.message).toMatch(text);
    const detail = told.details.find((one) => one.type === "tollgate.v1.Tracedata");
    expect(fromBinary(TracedataSchema, Buffer.from(detail?.value ?? "", "base64"))).toMatchObject({
      code: tracecode,
      client: "administration_|_admin",
      operation: "read_user",
    });
    expect(logged(tracecode)).toBe(true);
  });

  test("gRPC-Web: a missing message", async () => {
    const answer = await post("application/grpc-web+proto", enveloped);
    const bytes = Buffer.from(await answer.arrayBuffer());
    expect(bytes[0]).toBe(0x80);
    expect(statusOf(trailerParse(bytes.subarray(5)).get("grpc-status-details-bin"))).toEqual([3, ["read_user"]]);
    expect(logged(answer.headers.get("tracecode"))).toBe(true);
  });

  test("gRPC: a missing message on a unary call and on a stream", async () => {
    for (const [path, operation] of [
      ["/tollgate.v1.UserService/ReadUser", "read_user"],
      ["/tollgate.v1.UserService/ReadUsers", "read_users"],
    ] as const) {
      const { trailers } = await grpc(path, enveloped, { authorization: `Bearer ${app.admin}` });
      expect([trailers["grpc-status"], statusOf(trailers["grpc-status-details-bin"])]).toEqual(["3", [3, [operation]]]);
      expect(logged(trailers.tracecode ?? null)).toBe(true);
    }
  });

  test.each([
    "application/connect+json",
    "application/connect+JSON",
    "Application/Connect+Proto",
    "application/grpc-web+JSON",
    "application/GRPC-Web+proto",
  ])("a stream answers the same in %s: media types ignore case", async (type) => {
    const isJson = /json/i.test(type);
    const answer = await fetch(`${app.url}/tollgate.v1.UserService/ReadUsers`, {
      method: "POST",
      headers: { ...bearer(), "content-type": type },
      body: encodeEnvelope(0, Buffer.from(isJson ? "{}" : "")),
    });
    const bytes = Buffer.from(await answer.arrayBuffer());
    const message = bytes.subarray(5, 5 + bytes.readUInt32BE(1));
    const { users: found } = isJson
      ? fromJson(ReadUsersResponseSchema, JSON.parse(message.toString()))
      : fromBinary(ReadUsersResponseSchema, message);
    expect(found.map(({ username }) => username)).toContain("admin");
  });

  test("Connect: a missing message on a stream", async () => {
    const answer = await fetch(`${app.url}/tollgate.v1.UserService/ReadUsers`, {
      method: "POST",
      headers: { "content-type": "application/connect+proto", authorization: `Bearer ${app.admin}` },
      body: enveloped,
    });
    const bytes = Buffer.from(await answer.arrayBuffer());
    const { error } = JSON.parse(bytes.subarray(5).toString());
    const types = error.details.map(({ type }: { type: string }) => type);
    expect([bytes[0], error.code]).toEqual([2, "invalid_argument"]);
    expect(types).toEqual(["google.rpc.ErrorInfo", "tollgate.v1.Tracedata"]);
  });

  test.each([
    ["another type", "POST", "text/xml", 415, null],
    ["another method", "DELETE", "application/json", 405, "POST"],
  ])("%s", async (_what, method, type, status, allow) => {
    const answer = await fetch(`${app.url}/tollgate.v1.UserService/ReadUser`, {
      method,
      headers: { "content-type": type },
      ...(method === "POST" && { body: "{}" }),
    });
    expect([answer.status, answer.headers.get("allow")]).toEqual([status, allow]);
    const { tracedata } = (await answer.json()) as { tracedata: { code: string; operation: string } };
    expect(tracedata).toMatchObject({ code: answer.headers.get("tracecode"), operation: "read_user" });
  });

  test("authenticates the caller before it reads the request", async () => {
    const answer = await post("application/json", "{", "");
    expect([answer.status, ((await answer.json()) as { code: string }).code]).toEqual([401, "unauthenticated"]);
    const { trailers } = await grpc("/tollgate.v1.UserService/ReadUser", enveloped, {});
    expect(trailers["grpc-status"]).toBe("16");
  });

  test("stops waiting for a body that does not arrive", async () => {
    const impatient = await startTestApp({ BODY_TIMEOUT_MS: "200" });
    const session = connect(impatient.url);
    const held = (path: string, type: string) => {
      const stream = session.request({ ":method": "POST", ":path": path, "content-type": type });
      stream.write("{");
      return stream;
    };
    const json = held("/admin/token/generation", "application/json");
    const [head] = (await once(json, "response")) as [Record<string, unknown>];
    expect(head[":status"]).toBe(408);
    const grpcCall = held("/tollgate.v1.AuthService/CreateToken", "application/grpc");
    const tail: Record<string, unknown> = {};
    grpcCall
      .on("response", (fields) => Object.assign(tail, fields))
      .on("trailers", (fields) => Object.assign(tail, fields));
    await once(grpcCall.resume(), "close");
    expect(tail["grpc-status"]).toBe("4");
    session.destroy();
    await impatient.stop();
  });

  test("refuses a large body from a caller without a token", async () => {
    const body = JSON.stringify({ username: "admin", password: "x".repeat(20_000) });
    const headers = { "content-type": "application/json" };
    const connect = await fetch(`${app.url}/tollgate.v1.AuthService/CreateToken`, { method: "POST", headers, body });
    expect(((await connect.json()) as { code: string }).code).toBe("resource_exhausted");
    expect((await app.http("POST", "/admin/token/generation", { body })).status).toBe(413);
  });
});

/** The code and the operations of the tracedata in a grpc-status-details-bin. */
function statusOf(header: unknown): [code: number, operations: string[]] {
  const status = fromBinary(StatusSchema, Buffer.from(String(header), "base64"));
  const traces = status.details.filter(({ typeUrl }) => typeUrl.endsWith("/tollgate.v1.Tracedata"));
  return [status.code, traces.map(({ value }) => fromBinary(TracedataSchema, value).operation)];
}

/** Sends the bytes unchanged as a unary call. Returns its headers and trailers. */
async function grpc(path: string, body: Buffer, headers: Record<string, string>) {
  const session = connect(app.url);
  const stream = session.request({
    ":method": "POST",
    ":path": path,
    "content-type": "application/grpc",
    te: "trailers",
    ...headers,
  });
  const trailers: Record<string, string> = {};
  stream
    .on("response", (head) => Object.assign(trailers, head))
    .on("trailers", (tail) => Object.assign(trailers, tail));
  stream.resume().end(body);
  await once(stream, "close");
  session.close();
  return { trailers };
}

test("a client of @grpc/grpc-js reads the details of an error", async () => {
  const client = new Client(new URL(app.url).host, credentials.createInsecure());
  const metadata = new Metadata();
  metadata.set("authorization", `Bearer ${app.admin}`);
  const request = Buffer.from(toBinary(ReadUserRequestSchema, create(ReadUserRequestSchema, { username: "missing" })));
  const error = await new Promise<ServiceError | null>((done) => {
    const same = (bytes: Buffer) => bytes;
    client.makeUnaryRequest("/tollgate.v1.UserService/ReadUser", same, same, request, metadata, (outcome) =>
      done(outcome),
    );
  });
  client.close();
  // Connect percent-encodes more of the text than grpc-js decodes.
  expect([error?.code, decodeURIComponent(error?.details ?? "")]).toEqual([5, "no such user: missing"]);
  const status = fromBinary(StatusSchema, error?.metadata.get("grpc-status-details-bin")[0] as Buffer);
  expect(status.details.map(({ typeUrl }) => typeUrl.split("/").at(-1))).toEqual([
    "google.rpc.ErrorInfo",
    "google.rpc.ResourceInfo",
    "tollgate.v1.Tracedata",
  ]);
});

describe("HTTP/JSON", () => {
  test.each([
    ["GET", "/nothing/here", 404, {}],
    ["PATCH", "/admin/users", 405, { allow: "GET, HEAD, OPTIONS, POST, PUT" }],
    ["GET", "/admin/users/", 404, {}],
    ["GET", "/admin/users/%zz", 400, {}],
  ])("answers %s %s with %i and tracedata", async (method, path, status, headers) => {
    const code = randomUUID();
    const answer = await app.http(method, path, { token: app.admin, headers: { tracecode: code } });
    expect(answer.status).toBe(status);
    expect(answer.body.tracedata).toMatchObject({ code, server: "test_server", service: "ADMIN" });
    expect(answer.headers.get("tracecode")).toBe(code);
    for (const [name, value] of Object.entries(headers)) expect(answer.headers.get(name)).toBe(value);
  });

  test.each<[string, string, Record<string, string>, number]>([
    ["no JSON", "not json", {}, 400],
    ["a field twice", '{"key":"one","key":"two"}', {}, 400],
    ["another type", "<key/>", { "content-type": "text/xml" }, 415],
    ["another charset", "{}", { "content-type": "application/json; charset=latin1" }, 415],
    ["too many bytes", JSON.stringify({ key: "x".repeat(70_000) }), {}, 413],
    ["too deep a nest", "[".repeat(100), {}, 400],
  ])("refuses %s with tracedata", async (_what, body, headers, status) => {
    const answer = await app.http("POST", "/admin/companies", { token: app.admin, body, headers });
    expect([answer.status, answer.body.tracedata?.operation]).toEqual([status, "create_company"]);
  });

  test("serves a request with an absolute URL as its target", async () => {
    const { port } = new URL(app.url);
    const socket = connectSocket(Number(port), "127.0.0.1");
    socket.write(`GET ${app.url}/admin/system/version HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n`);
    const [head] = await once(socket, "data");
    expect(String(head)).toMatch(/^HTTP\/1.1 200 /);
    socket.destroy();
  });

  test("answers HEAD like GET, without the body", async () => {
    const get = await app.http("GET", "/admin/users/admin", { token: app.admin });
    const head = await app.http("HEAD", "/admin/users/admin", { token: app.admin });
    expect([head.status, head.headers.get("content-length")]).toEqual([200, get.headers.get("content-length")]);
  });

  test("refuses a tracecode that is not a UUID, and answers with a new one", async () => {
    const answer = await app.http("GET", "/admin/system/version", { headers: { tracecode: "mine" } });
    expect([answer.status, answer.body.validations[0].field]).toEqual([400, "tracecode"]);
    expect(answer.headers.get("tracecode")).toBe(answer.body.tracedata.code);
  });

  test("names the field and the rule of a name in the path that ends with a colon", async () => {
    const answer = await app.http("DELETE", "/admin/users/admin:", { token: app.admin });
    expect([answer.status, answer.body.validations]).toEqual([400, [{ field: "username", message: ruleOfNames }]]);
  });

  test("authenticates the caller before it reads the request", async () => {
    expect((await app.http("POST", "/admin/companies", { body: "not json" })).status).toBe(401);
  });

  test("accepts both spellings of a field, but not both at once", async () => {
    const { body } = await app.http("GET", "/admin/users?sortField=username&limit=1", { token: app.admin });
    expect(body.users.length).toBe(1);
    const twice = await app.http("GET", "/admin/users?sortField=username&sort_field=name", { token: app.admin });
    expect([twice.status, twice.body.validations[0].field]).toEqual([400, "sort_field"]);
  });
});

test("an internal error is answered without its cause and logged with it", async () => {
  await app.database.raw("alter table quota rename to quota_gone");
  const answer = await app.http("GET", "/admin/quotas/admin", { token: app.admin });
  await app.database.raw("alter table quota_gone rename to quota");
  expect([answer.status, answer.body.message]).toEqual([500, "internal error"]);
  expect(JSON.stringify(answer.body)).not.toMatch(/quota"|relation|select|\.ts|\.js/);
  const line = app.log.find(({ tracecode, level }) => tracecode === answer.body.tracedata.code && level === 50);
  expect(line.err.message).toContain("quota");
});
