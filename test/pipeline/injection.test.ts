import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { type ClientHttp2Session, connect, type IncomingHttpHeaders } from "node:http2";
import type { Socket } from "node:net";
import { create, type DescMethod, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { timestampNow } from "@bufbuild/protobuf/wkt";
import { encodeEnvelope } from "@connectrpc/connect/protocol";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { AuditService } from "#gen/tollgate/v1/audit_pb.js";
import { CompanyService } from "#gen/tollgate/v1/company_pb.js";
import { DataService } from "#gen/tollgate/v1/data_pb.js";
import { QuotaService } from "#gen/tollgate/v1/lease_pb.js";
import { QuotaAdminService } from "#gen/tollgate/v1/quota_pb.js";
import { StatisticsService } from "#gen/tollgate/v1/statistics_pb.js";
import { AuthService } from "#gen/tollgate/v1/token_pb.js";
import { Method_Group, Service_Name } from "#gen/tollgate/v1/tracedata_pb.js";
import { UserService } from "#gen/tollgate/v1/user_pb.js";
import { type Json, startTestApp, type TestApp } from "../support/app.ts";
import { flags, frame, headerBlock, openFrames, requestHeaders } from "../support/frames.ts";

let app: TestApp;
let session: ClientHttp2Session;
let username: string;

beforeAll(async () => {
  app = await startTestApp({ LOGIN_FAILURES: "1000000" });
  session = connect(app.url);
  username = await app.user({ username: "canary_user", name: "canary name" });
});
afterAll(async () => {
  session.destroy();
  await app.stop();
});

/** One place of a text, as HTTP/JSON and as gRPC reach it. */
interface Place {
  readonly says: string;
  readonly http: (text: string) => readonly [method: string, path: string, body?: Json];
  readonly method: DescMethod;
  readonly grpc: (text: string) => object;
}

const q = encodeURIComponent;

describe("SQL in a text", () => {
  const texts = [
    "' OR '1'='1",
    "' OR 1=1 --",
    "') OR ('1'='1",
    "'; DROP TABLE company CASCADE; --",
    "'; UPDATE user_account SET name = 'injected'; --",
    "' UNION SELECT username, password_hash FROM user_account --",
    "'||(SELECT pg_sleep(60))||'",
    "1; SELECT pg_sleep(60)",
    "name; SELECT 1",
    "(SELECT CASE WHEN (1=1) THEN name ELSE username END)",
    "name ASC, (SELECT 1/0)",
    "\\' OR 1=1 --",
    "$1",
    "? ?",
    ":name",
    "$$; SELECT 1; $$",
    '" OR ""="',
    "E'\\x27'",
    "/**/OR/**/1=1",
  ];
  const places: readonly Place[] = [
    list("a user's filter", "users", "filter", UserService.method.readUsers),
    list("the order of users", "users", "sort_field", UserService.method.readUsers),
    list("the company of users", "users", "company_key", UserService.method.readUsers),
    one("a username", (text) => `/admin/users/${q(text)}`, UserService.method.readUser, "username"),
    list("a company's filter", "companies", "filter", CompanyService.method.readCompanies),
    list("the order of companies", "companies", "sort_field", CompanyService.method.readCompanies),
    one("a company's key", (text) => `/admin/companies/${q(text)}`, CompanyService.method.readCompany, "key"),
    list("the operation of actions", "audit", "operation_id", AuditService.method.readAudit),
    list("the user of actions", "audit", "username", AuditService.method.readAudit),
    list("the order of actions", "audit", "sort_field", AuditService.method.readAudit),
    one(
      "the user of a report",
      (text) => `/admin/report?username=${q(text)}`,
      StatisticsService.method.readReport,
      "username",
    ),
    one("a tracecode", (text) => `/admin/data/${q(text)}`, DataService.method.readDataFiles, "tracecode"),
    one("the user of quotas", (text) => `/admin/quotas/${q(text)}`, QuotaAdminService.method.readQuotas, "username"),
    one("the user of usage", (text) => `/quota/usage/${q(text)}`, QuotaService.method.getQuotaUsage, "username"),
    {
      says: "the name of a login",
      http: (text) => ["POST", "/admin/token/generation", { username: text, password: text }],
      method: AuthService.method.createToken,
      grpc: (text) => ({ username: text, password: text }),
    },
  ];

  test.each(places)("as $says finds nothing and changes nothing", async ({ http, method, grpc }) => {
    const before = await everything();
    for (const text of texts) {
      const [httpMethod, path, body] = http(text);
      const answer = await app.http(httpMethod, path, { token: app.admin, body });
      expect([200, 400, 401, 404], `${text}: ${JSON.stringify(answer.body)}`).toContain(answer.status);
      expect(JSON.stringify(answer.body)).not.toMatch(/canary|argon2|syntax error/);
      const reply = await callGrpc(method, grpc(text));
      // OK, INVALID_ARGUMENT, NOT_FOUND, UNAUTHENTICATED.
      expect(["0", "3", "5", "16"], `${text}: ${reply.message}`).toContain(reply.code);
      expect(`${reply.body}${reply.message}`).not.toMatch(/canary|argon2|syntax error/);
    }
    expect(await everything()).toEqual(before);
    expect(app.log.filter(({ level }) => level >= 50)).toEqual([]);
  });

  test("that is stored is read back unchanged", async () => {
    const key = await app.company();
    for (const text of texts) {
      const detail = { method: "PUT", path: "/admin/companies", body: { key, detail: text } };
      expect((await app.http(detail.method, detail.path, { token: app.admin, body: detail.body })).status).toBe(200);
      expect((await app.http("GET", `/admin/companies/${key}`, { token: app.admin })).body.detail).toBe(text);
      const found = await app.http("GET", `/admin/companies?filter=${q(text)}`, { token: app.admin });
      expect(found.body.companies.map((company: Json) => company.key)).toEqual([key]);
      const patch = { username, name: text };
      expect((await callGrpc(UserService.method.patchUser, { username, user: patch })).code).toBe("0");
      expect((await app.http("GET", `/admin/users/${username}`, { token: app.admin })).body.name).toBe(text);
    }
  });

  /** A list with one query parameter. */
  function list(says: string, path: string, name: string, method: DescMethod): Place {
    return one(says, (text) => `/admin/${path}?${name}=${q(text)}`, method, name);
  }

  function one(says: string, path: (text: string) => string, method: DescMethod, name: string): Place {
    const field = method.input.fields.find((candidate) => candidate.name === name);
    if (field === undefined) throw new Error(`${method.name} has no field ${name}`);
    return { says, http: (text) => ["GET", path(text)], method, grpc: (text) => ({ [field.localName]: text }) };
  }

  /** The names of all tables except partitions, the companies and the users. */
  async function everything(): Promise<Json> {
    const { rows: tables } = await app.database.raw(
      String.raw`SELECT relname FROM pg_class WHERE relkind IN ('r', 'p') AND relname !~ '_\d{8}$' ORDER BY 1`,
    );
    const { rows: companies } = await app.database.raw("SELECT * FROM company ORDER BY key");
    const { rows: users } = await app.database.raw("SELECT * FROM user_account ORDER BY 1");
    return { tables, companies, users };
  }
});

describe("a line break or NUL in a text that can reach a header", () => {
  const texts = [
    "a\r\nx-injected: yes",
    "a\nx-injected: yes",
    "a\rx-injected: yes",
    "a\0b",
    "a\r\n\r\nHTTP/1.1 200 OK",
  ];
  const tracecode = randomUUID();
  /** Each refusal names the field. */
  const places: readonly (Place & { readonly field: string })[] = [
    {
      says: "the filename of an upload",
      field: "filename",
      http: (text) => ["PUT", `/admin/data/${tracecode}?username=canary_user&filename=${q(text)}`, {}],
      method: DataService.method.putData,
      grpc: (filename) => ({ ...upload(), filename }),
    },
    {
      says: "the user of a report",
      field: "username",
      http: (text) => ["GET", `/admin/report?username=${q(text)}`],
      method: StatisticsService.method.readReport,
      grpc: (text) => ({ username: text }),
    },
    {
      says: "the period of a report",
      field: "from",
      http: (text) => ["GET", `/admin/report?from=${q(text)}&to=${q(text)}`],
      method: StatisticsService.method.readReport,
      grpc: (text) => ({ from: text, to: text }),
    },
    {
      says: "a tracecode in a path",
      field: "tracecode",
      http: (text) => ["GET", `/admin/data/${q(text)}`],
      method: DataService.method.readDataFiles,
      grpc: (text) => ({ tracecode: text }),
    },
    {
      says: "a name that a reason repeats",
      field: "username",
      http: (text) => ["GET", `/admin/users/${q(text)}`],
      method: UserService.method.readUser,
      grpc: (text) => ({ username: text }),
    },
    {
      says: "an order that a reason repeats",
      field: "sort_field",
      http: (text) => ["GET", `/admin/users?sort_field=${q(text)}`],
      method: UserService.method.readUsers,
      grpc: (text) => ({ sortField: text }),
    },
    {
      says: "the user of an action",
      field: "username",
      http: (text) => [
        "POST",
        "/audit/actions",
        { actions: [{ ...action(text), method_group: "PLAN", time: new Date().toISOString() }] },
      ],
      method: AuditService.method.recordActions,
      grpc: (text) => ({ actions: [{ ...action(text), methodGroup: Method_Group.PLAN, time: timestampNow() }] }),
    },
  ];

  test.each(places)("$says is refused and adds no header", async ({ field, http, method, grpc }) => {
    for (const text of texts) {
      const [httpMethod, path, body] = http(text);
      const answer = await app.http(httpMethod, path, { token: app.admin, body });
      expect(answer.body.message).toContain(field);
      expect([answer.status, answer.headers.get("x-injected")]).toEqual([400, null]);
      const { code, message, headers } = await callGrpc(method, grpc(text));
      expect(message).toContain(field);
      expect([code, headers["x-injected"]]).toEqual(["3", undefined]);
      expect(Object.values(headers).join("")).not.toMatch(/[\r\n\0]/);
    }
    expect(app.log.filter(({ level }) => level >= 50)).toEqual([]);
  });

  test.each([...texts, ...['"', "\u0001", "\u007f", "é", "日"].map((text) => `text/plain; a="${text}"`)])(
    "as the content type of an upload is stored as that of unknown bytes: %j",
    async (contentType) => {
      const code = randomUUID();
      const request = { ...upload(), tracecode: code, file: { contentType, data: Buffer.from("{}") } };
      expect((await callGrpc(DataService.method.putData, request)).code).toBe("0");
      const { status, headers, body } = await app.http("GET", `/admin/data/${code}?data_flow_type=INPUT`, {
        token: app.admin,
      });
      expect([status, headers.get("content-type"), headers.get("x-injected"), body]).toEqual([
        200,
        "application/octet-stream",
        null,
        "{}",
      ]);
    },
  );

  test.each([
    { says: "HTTP/JSON", path: "/admin/system/version", type: "application/json", method: "GET" },
    { says: "gRPC", path: "/tollgate.v1.SystemService/Version", type: "application/grpc", method: "POST" },
  ])("as a tracecode over $says is never returned", async ({ path, type, method }) => {
    for (const text of [...texts, "a%0d%0ax-injected: yes"]) {
      const socket = openFrames(Number(new URL(app.url).port));
      const block = Buffer.concat([requestHeaders(path, type, method), headerBlock({ tracecode: text })]);
      socket.write(frame("headers", flags.endHeaders | flags.endStream, 1, block));
      const bytes = await readAnswer(socket);
      socket.destroy();
      expect(bytes.toString("latin1")).not.toContain("x-injected");
    }
    expect((await fetch(`${app.url}/admin/system/version`)).status).toBe(200);
  });

  function upload() {
    return { tracecode, username: "canary_user", file: { contentType: "application/json", data: Buffer.from("{}") } };
  }

  function action(text: string) {
    return { tracecode, username: text, service: Service_Name.ROUTING, operation: "run_plan", points: 1 };
  }
});

/** Returns what the server sends on a connection: its settings, then a response, a reset of the stream, or the end. */
async function readAnswer(socket: Socket): Promise<Buffer> {
  let bytes = Buffer.alloc(0);
  const isAnswered = () => {
    let at = 0;
    while (bytes.length >= at + 9) {
      const type = bytes.readUInt8(at + 3);
      // HEADERS, RST_STREAM, GOAWAY.
      if ([1, 3, 7].includes(type)) return true;
      at += 9 + bytes.readUIntBE(at, 3);
    }
    return socket.destroyed;
  };
  socket.on("data", (chunk: Buffer) => (bytes = Buffer.concat([bytes, chunk])));
  while (!isAnswered()) await Promise.race([once(socket, "data"), once(socket, "close")]);
  return bytes;
}

interface Reply {
  readonly code: string;
  readonly message: string;
  readonly body: string;
  /** Headers and trailers. */
  readonly headers: IncomingHttpHeaders;
}

/** Calls a method over gRPC with one message, without a client library that would check it. */
async function callGrpc(method: DescMethod, request: object): Promise<Reply> {
  const { input, parent, name } = method;
  const stream = session.request({
    ":method": "POST",
    ":path": `/${parent.typeName}/${name}`,
    "content-type": "application/grpc",
    te: "trailers",
    authorization: `Bearer ${app.admin}`,
  });
  let headers: IncomingHttpHeaders = {};
  let body = "";
  stream.on("response", (sent) => (headers = { ...headers, ...sent }));
  stream.on("trailers", (sent) => (headers = { ...headers, ...sent }));
  stream.on("data", (chunk) => (body += String(chunk)));
  stream.end(encodeEnvelope(0, toBinary(input, create(input, request as MessageInitShape<typeof input>))));
  await once(stream, "close");
  return { code: String(headers["grpc-status"]), message: String(headers["grpc-message"]), body, headers };
}

describe("script in a text", () => {
  const texts = [
    "<script>alert(1)</script>",
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<svg onload=alert(1)>",
    '"><script>alert(1)</script>',
    "'-alert(1)-'",
    "javascript:alert(1)",
    "{{constructor.constructor('alert(1)')()}}",
    "<!--<script>",
    "+ADw-script+AD4-alert(1)+ADw-/script+AD4-",
  ];

  test.each(texts)("%s of a company is returned as JSON that no browser takes for a page", async (detail) => {
    const key = `c_${randomUUID().replaceAll("-", "")}`;
    await app.http("POST", "/admin/companies", { token: app.admin, body: { key, detail } });
    const { status, headers, body } = await app.http("GET", `/admin/companies/${key}`, { token: app.admin });
    expect([status, body.detail]).toEqual([200, detail]);
    expectNoPage(headers);
  });

  test.each(texts)("%s in a path is refused by JSON that no browser takes for a page", async (text) => {
    const { status, headers } = await app.http("GET", `/admin/users/${q(text)}`, { token: app.admin });
    expect(status).toBeGreaterThanOrEqual(400);
    expectNoPage(headers);
  });

  test.each(["text/html", "image/svg+xml", "application/xhtml+xml", "text/xml", "application/javascript"])(
    "a file of type %s is a download, and never a page",
    async (type) => {
      const tracecode = randomUUID();
      const path = `/admin/data/${tracecode}?username=${username}&filename=${q("<script>.html")}&data_flow_type=INPUT`;
      const headers = { "content-type": type };
      const body = "<script>alert(1)</script>";
      expect((await app.http("PUT", path, { token: app.admin, headers, body })).status).toBeLessThan(300);
      const answer = await app.http("GET", `/admin/data/${tracecode}`, { token: app.admin });
      expect(answer.headers.get("content-disposition")).toMatch(/^attachment; filename=/);
      expect(answer.headers.get("x-content-type-options")).toBe("nosniff");
    },
  );
});

function expectNoPage(headers: Headers): void {
  expect(headers.get("content-type")).toBe("application/json; charset=utf-8");
  expect(headers.get("x-content-type-options")).toBe("nosniff");
}
