import { randomUUID } from "node:crypto";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { Code, ConnectError, createClient, type Transport } from "@connectrpc/connect";
import { createConnectTransport, createGrpcTransport, createGrpcWebTransport } from "@connectrpc/connect-node";
import { Client, credentials, Metadata, type ServiceError } from "@grpc/grpc-js";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  BadRequestSchema,
  ErrorInfoSchema,
  ResourceInfoSchema,
  RetryInfoSchema,
} from "#gen/google/rpc/error_details_pb.js";
import { StatusSchema } from "#gen/google/rpc/status_pb.js";
import { CompanyService } from "#gen/tollgate/v1/company_pb.js";
import { AuthService } from "#gen/tollgate/v1/token_pb.js";
import { TracedataSchema } from "#gen/tollgate/v1/tracedata_pb.js";
import { ReadUserRequestSchema, UserService } from "#gen/tollgate/v1/user_pb.js";
import { startTestApp, type TestApp } from "../support/app.ts";

let app: TestApp;
beforeAll(async () => {
  app = await startTestApp({ MAX_BODY_BYTES: "65536", LOGIN_FAILURES: "2" });
});
afterAll(() => app.stop());

const bearer = () => ({ authorization: `Bearer ${app.admin}` });
const transports: [string, () => Transport][] = [
  ["gRPC", () => createGrpcTransport({ baseUrl: app.url })],
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

describe.each(transports)("%s", (_name, transport) => {
  const users = () => createClient(UserService, transport());
  const companies = () => createClient(CompanyService, transport());

  test("changes and reads what HTTP/JSON reads", async () => {
    const key = `door_${randomUUID().replaceAll("-", "")}`;
    const created = await companies().createCompany({ key, detail: "by another door" }, { headers: bearer() });
    expect(created).toMatchObject({ key, detail: "by another door" });
    expect((await app.http("GET", `/admin/companies/${key}`, { token: app.admin })).body).toEqual({
      key,
      detail: "by another door",
    });
  });

  test("streams a list in pages whose merge is the answer", async () => {
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
    const error = await failure(users().createUser(request, { headers: { ...bearer(), tracecode: code } }));
    expect(error.code).toBe(Code.InvalidArgument);
    const fields = error
      .findDetails(BadRequestSchema)
      .flatMap(({ fieldViolations }) => fieldViolations.map(({ field }) => field));
    expect(fields.toSorted()).toEqual(["company_key", "timezone", "username"]);
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
    const taken = await failure(companies().createCompany({ key: "administration" }, { headers: bearer() }));
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

  test("tells when to try again", async () => {
    const username = await app.user();
    const auth = createClient(AuthService, transport());
    const guess = () => failure(auth.createToken({ username, password: "wrong password" }));
    expect([(await guess()).code, (await guess()).code]).toEqual([Code.Unauthenticated, Code.Unauthenticated]);
    const slowed = await guess();
    expect(slowed.code).toBe(Code.ResourceExhausted);
    expect(Number(slowed.findDetails(RetryInfoSchema)[0]?.retryDelay?.seconds)).toBeGreaterThan(800);
  });

  test("ends at the caller's deadline, while the database still works", async () => {
    const lock = await app.database.transaction();
    await lock.raw("lock table company in access exclusive mode");
    const late = companies().readCompany({ key: "administration" }, { headers: bearer(), timeoutMs: 200 });
    // The database itself would give up after five seconds, with UNAVAILABLE.
    expect((await failure(late)).code).toBe(Code.DeadlineExceeded);
    const line = () =>
      app.log.some(({ operation, outcome }) => operation === "read_company" && outcome === "DeadlineExceeded");
    try {
      await expect.poll(line, { timeout: 4000 }).toBe(true);
    } finally {
      await lock.rollback();
    }
    app.log.length = 0;
  });

  test("refuses a message beyond the size limit", async () => {
    const error = await failure(
      companies().createCompany({ key: "large", detail: "x".repeat(70_000) }, { headers: bearer() }),
    );
    expect(error.code).toBe(Code.ResourceExhausted);
  });
});

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

  test("answers HEAD like GET, without the body", async () => {
    const get = await app.http("GET", "/admin/users/admin", { token: app.admin });
    const head = await app.http("HEAD", "/admin/users/admin", { token: app.admin });
    expect([head.status, head.headers.get("content-length")]).toEqual([200, get.headers.get("content-length")]);
  });

  test("refuses a tracecode that is no UUID, and answers with one of its own", async () => {
    const answer = await app.http("GET", "/admin/system/version", { headers: { tracecode: "mine" } });
    expect([answer.status, answer.body.validations[0].field]).toEqual([400, "tracecode"]);
    expect(answer.headers.get("tracecode")).toBe(answer.body.tracedata.code);
  });

  test("asks who is calling before it reads the request", async () => {
    expect((await app.http("POST", "/admin/companies", { body: "not json" })).status).toBe(401);
  });

  test("takes both spellings of a field, and not both at once", async () => {
    const { body } = await app.http("GET", "/admin/users?sortField=username&limit=1", { token: app.admin });
    expect(body.users.length).toBe(1);
    const twice = await app.http("GET", "/admin/users?sortField=username&sort_field=name", { token: app.admin });
    expect([twice.status, twice.body.validations[0].field]).toEqual([400, "sort_field"]);
  });
});

test("a fault of ours is told as no more than that, and logged with its cause", async () => {
  await app.database.raw("alter table quota rename to quota_gone");
  const answer = await app.http("GET", "/admin/quotas/admin", { token: app.admin });
  await app.database.raw("alter table quota_gone rename to quota");
  expect([answer.status, answer.body.message]).toEqual([500, "internal error"]);
  expect(JSON.stringify(answer.body)).not.toMatch(/quota"|relation|select|\.ts|\.js/);
  const line = app.log.find(({ tracecode, level }) => tracecode === answer.body.tracedata.code && level === 50);
  expect(line.err.message).toContain("quota");
});

test("a change is logged with who, what and which", async () => {
  const answer = await app.http("POST", "/admin/companies", { token: app.admin, body: { key: "logged_change" } });
  const code = answer.headers.get("tracecode");
  const line = app.log.find(({ msg, tracecode }) => msg === "change" && tracecode === code);
  expect(line).toMatchObject({
    client: "administration_|_admin",
    operation: "create_company",
    resource: "logged_change",
  });
});
