import { type DescMethod, fromJsonString, toBinary } from "@bufbuild/protobuf";
import { encodeEnvelope } from "@connectrpc/connect/protocol";
import { afterAll, beforeAll, expect, test } from "vitest";
import { AuditService } from "#gen/tollgate/v1/audit_pb.js";
import { QuotaService } from "#gen/tollgate/v1/lease_pb.js";
import { QuotaAdminService } from "#gen/tollgate/v1/quota_pb.js";
import { UserService } from "#gen/tollgate/v1/user_pb.js";
import { type Caller, openCaller } from "../fuzz/callers.ts";
import { judge } from "../fuzz/judge.ts";
import type { Sent, Transport } from "../fuzz/requests.ts";
import { startTestApp, type TestApp } from "../support/app.ts";

// A caller's mistake is INVALID_ARGUMENT on every transport, and never INTERNAL.

let app: TestApp;
let caller: Caller;
beforeAll(async () => {
  app = await startTestApp();
  caller = openCaller(app.url);
});
afterAll(async () => {
  caller.close();
  await app.stop();
});

const types = {
  gRPC: "application/grpc",
  "gRPC-Web": "application/grpc-web+proto",
  "gRPC-Web, HTTP/1.1": "application/grpc-web+proto",
  "Connect binary": "application/connect+proto",
  "Connect binary, HTTP/1.1": "application/connect+proto",
  "Connect JSON": "application/connect+json",
  "Connect JSON, HTTP/1.1": "application/connect+json",
} as const;

async function call(transport: Transport, method: DescMethod, type: string, body: Buffer): Promise<string> {
  const headers = {
    ":method": "POST",
    ":path": `/${method.parent.typeName}/${method.name}`,
    "content-type": type,
    authorization: `Bearer ${app.admin}`,
  };
  const sent: Sent = { transport, method, headers, body, isCut: false };
  const { status, fault } = judge(sent, await caller.send(sent));
  return fault ?? status;
}

test.each(Object.entries(types))("garbage on a stream of %s", async (transport, type) => {
  const method = AuditService.method.recordActionStream;
  const garbage = [Buffer.from([0xff, 0xff, 0xff, 0xff]), Buffer.from("{"), Buffer.alloc(40, 0x0b)];
  for (const message of garbage) {
    const body = Buffer.from(encodeEnvelope(0, message));
    expect(await call(transport as Transport, method, type, body)).toBe("InvalidArgument");
  }
});

test.each(Object.entries(types))(
  "an envelope of %s that is compressed, without an encoding",
  async (transport, type) => {
    const body = Buffer.from(encodeEnvelope(1, Buffer.from("{}")));
    const stream = AuditService.method.recordActionStream;
    // Unary calls of Connect have no envelopes.
    const methods = transport.startsWith("gRPC") ? [stream, QuotaService.method.checkQuota] : [stream];
    for (const method of methods) {
      expect(await call(transport as Transport, method, type, body)).toBe("InvalidArgument");
    }
  },
);

test.each(["gzip", "br"])("bytes that are not %s", async (encoding) => {
  for (const bytes of [Buffer.from([0x0a, 0x01, 0x61, 0x1a, 0x00]), Buffer.from("{}"), Buffer.from([0x1f, 0x8b, 8])]) {
    const method = QuotaService.method.checkQuota;
    const sent: Sent = {
      transport: "gRPC",
      method,
      headers: {
        ":method": "POST",
        ":path": `/${method.parent.typeName}/${method.name}`,
        "content-type": "application/grpc",
        "grpc-encoding": encoding,
        authorization: `Bearer ${app.admin}`,
      },
      body: Buffer.from(encodeEnvelope(1, bytes)),
      isCut: false,
    };
    const { status, fault } = judge(sent, await caller.send(sent));
    expect(fault ?? status).toBe("InvalidArgument");
  }
});

const many = <Item>(item: Item) => Array.from({ length: 5_000 }, () => item);
const longLists = [
  {
    says: "5,000 methods in a quota",
    method: QuotaAdminService.method.updateQuotas,
    json: { username: "admin", quota: { services: [{ service: "ROUTING", methods: many({ method_group: "PLAN" }) }] } },
    path: "/admin/quotas/admin",
    body: { services: [{ service: "ROUTING", methods: many({ method_group: "PLAN" }) }] },
  },
  {
    says: "5,000 services in a quota",
    method: QuotaAdminService.method.updateQuotas,
    json: { username: "admin", quota: { services: many({ service: "ROUTING", methods: [{ method_group: "PLAN" }] }) } },
    path: "/admin/quotas/admin",
    body: { services: many({ service: "ROUTING", methods: [{ method_group: "PLAN" }] }) },
  },
  {
    says: "5,000 roles",
    method: UserService.method.updateUser,
    json: { user: { username: "anna", company_key: "acme", roles: many("USER") } },
    path: "/admin/users",
    body: { username: "anna", company_key: "acme", roles: many("USER") },
  },
];

test.each(longLists)("$says", async ({ method, json, path, body }) => {
  const text = JSON.stringify(json);
  const bytes = Buffer.from(toBinary(method.input, fromJsonString(method.input, text)));
  const envelope = Buffer.from(encodeEnvelope(0, bytes));
  const statuses = await Promise.all([
    call("Connect JSON", method, "application/json", Buffer.from(text)),
    call("Connect JSON, HTTP/1.1", method, "application/json", Buffer.from(text)),
    call("Connect binary", method, "application/proto", bytes),
    call("gRPC", method, "application/grpc", envelope),
    call("gRPC-Web", method, "application/grpc-web+proto", envelope),
    app.http("PUT", path, { token: app.admin, body }).then(({ status }) => String(status)),
  ]);
  expect(statuses).toEqual(["400", "400", "400", "InvalidArgument", "InvalidArgument", "400"]);
});
