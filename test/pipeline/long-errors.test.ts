import { randomUUID } from "node:crypto";
import { create, type DescMethodUnary, fromBinary, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { timestampNow } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, createClient, type Transport } from "@connectrpc/connect";
import { createConnectTransport, createGrpcTransport, createGrpcWebTransport } from "@connectrpc/connect-node";
import { Client, credentials, Metadata, type ServiceError } from "@grpc/grpc-js";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { BadRequestSchema } from "#gen/google/rpc/error_details_pb.js";
import { StatusSchema } from "#gen/google/rpc/status_pb.js";
import { AuditService, type RecordActionsRequestSchema } from "#gen/tollgate/v1/audit_pb.js";
import { QuotaAdminService, type UpdateQuotasRequestSchema } from "#gen/tollgate/v1/quota_pb.js";
import { Method_Group, Service_Name } from "#gen/tollgate/v1/tracedata_pb.js";
import { startTestApp, type TestApp } from "../support/app.ts";

let app: TestApp;
beforeAll(async () => {
  app = await startTestApp();
});
afterAll(() => app.stop());

const maxBodyBytes = 5000;

const unknownUsers: MessageInitShape<typeof RecordActionsRequestSchema> = {
  actions: Array.from({ length: 250 }, (_, index) => ({
    tracecode: randomUUID(),
    username: `nobody_${index}`,
    service: Service_Name.ROUTING,
    operation: "run_plan_calculation",
    methodGroup: Method_Group.PLAN,
    time: timestampNow(),
    points: 1,
  })),
};
const wrongMethods: MessageInitShape<typeof UpdateQuotasRequestSchema> = {
  username: "admin",
  quota: {
    services: Array.from({ length: 12 }, (_service, index) => ({
      service: (index + 1) as Service_Name,
      methods: Array.from({ length: 60 }, () => ({ methodGroup: 77 as Method_Group, pointsPerRequest: 2_000_000_000 })),
    })),
  },
};
const longDay: MessageInitShape<typeof UpdateQuotasRequestSchema> = {
  username: "admin",
  from: "2".repeat(60_000),
  to: "2026-01-02",
  quota: { services: [{ service: 1, methods: [{ methodGroup: 3, pointsPerRequest: 1 }] }] },
};
const foreignDay = { ...longDay, from: "日".repeat(20_000) };

interface Case {
  readonly says: string;
  readonly method: DescMethodUnary;
  readonly request: object;
  /** The end of the message, which counts the violations that are not listed. */
  readonly more: RegExp;
  /** The bytes of headers that the error may use: many clients read at most 8 KiB of headers. */
  readonly headerLimit: number;
}

const cases: readonly Case[] = [
  {
    says: "250 unknown users",
    method: AuditService.method.recordActions,
    request: unknownUsers,
    more: /; and 2\d\d more$/,
    headerLimit: 4200,
  },
  {
    says: "12 times 60 wrong methods",
    method: QuotaAdminService.method.updateQuotas,
    request: wrongMethods,
    more: /; and \d{3,4} more$/,
    headerLimit: 4200,
  },
  {
    says: "a day of 60 KB",
    method: QuotaAdminService.method.updateQuotas,
    request: longDay,
    more: /from/,
    headerLimit: 4200,
  },
  {
    says: "a day of 60 KB in Chinese",
    method: QuotaAdminService.method.updateQuotas,
    request: foreignDay,
    more: /from/,
    headerLimit: 4200,
  },
];

const headers = () => ({ authorization: `Bearer ${app.admin}` });
const transports: [string, () => Transport][] = [
  ["gRPC", () => createGrpcTransport({ baseUrl: app.url })],
  ["gRPC-Web", () => createGrpcWebTransport({ baseUrl: app.url, httpVersion: "1.1" })],
  ["Connect", () => createConnectTransport({ baseUrl: app.url, httpVersion: "1.1" })],
  ["Connect with JSON", () => createConnectTransport({ baseUrl: app.url, httpVersion: "2", useBinaryFormat: false })],
];

describe.each(cases)("$says", ({ method, request, more, headerLimit }) => {
  test.each(transports)("%s: gives a short error that names the first violations", async (_name, transport) => {
    const client = createClient(method.parent, transport()) as unknown as Record<
      string,
      (request: object, options: object) => Promise<unknown>
    >;
    const failed = client[method.localName]?.(request, { headers: headers() });
    const error = await failed?.then(
      () => undefined,
      (reason: unknown) => ConnectError.from(reason),
    );
    expect(error).toMatchObject({ code: Code.InvalidArgument });
    expect(error?.rawMessage).toMatch(more);
    const [badRequest] = error?.findDetails(BadRequestSchema) ?? [];
    expect(badRequest?.fieldViolations[0]?.field).not.toBe("");
    expect(badRequest && toBinary(BadRequestSchema, badRequest).length).toBeLessThan(2000);
  });

  test("grpc-js: gets a short header block", async () => {
    const client = new Client(app.url.replace("http://", ""), credentials.createInsecure());
    const metadata = new Metadata();
    metadata.set("authorization", `Bearer ${app.admin}`);
    const bytes = toBinary(method.input, create(method.input, request as MessageInitShape<typeof method.input>));
    const error = await new Promise<ServiceError | null>((done) => {
      const path = `/${method.parent.typeName}/${method.name}`;
      client.makeUnaryRequest(
        path,
        Buffer.from,
        (answer) => answer,
        bytes as Buffer,
        metadata,
        (failure) => done(failure),
      );
    });
    client.close();
    expect(error).toMatchObject({ code: Code.InvalidArgument });
    const details = error?.metadata.get("grpc-status-details-bin")[0] as Buffer;
    expect(fromBinary(StatusSchema, details).message).toMatch(more);
    const headerBytes = encodeURIComponent(error?.details ?? "").length + details.toString("base64").length;
    expect(headerBytes).toBeLessThan(headerLimit);
  });
});

test("HTTP/JSON: gives a short body", async () => {
  const actions = unknownUsers.actions?.map(({ username = "" }) => ({
    tracecode: randomUUID(),
    username,
    service: "ROUTING",
    operation: "run_plan_calculation",
    method_group: "PLAN",
    time: new Date().toISOString(),
    points: 1,
  }));
  const methods = Array.from({ length: 60 }, () => ({ method_group: "NONE", points_per_request: "many" }));
  const quota = { services: Array.from({ length: 12 }, () => ({ service: "ROUTING", methods })) };
  const unknownField = { services: [], ["x".repeat(60_000)]: 1 };
  const requests: [method: string, path: string, body: object][] = [
    ["POST", "/audit/actions", { actions }],
    ["PUT", "/admin/quotas/admin", quota],
    ["PUT", `/admin/quotas/admin?from=${"2".repeat(12_000)}&to=2026-01-02`, { services: [] }],
    ["PUT", "/admin/quotas/admin", unknownField],
    ["GET", `/${"x".repeat(12_000)}`, {}],
    ["GET", `/admin/users/${"x".repeat(12_000)}`, {}],
  ];
  for (const [method, path, body] of requests) {
    const answer = await app.http(method, path, { token: app.admin, ...(method !== "GET" && { body }) });
    expect(answer.status).toBeGreaterThanOrEqual(400);
    expect(answer.status).toBeLessThan(500);
    expect(JSON.stringify(answer.body).length).toBeLessThan(maxBodyBytes);
  }
  const { body } = await app.http("POST", "/audit/actions", { token: app.admin, body: { actions } });
  expect(body.validations.length).toBeGreaterThan(5);
  expect(body.validations.at(-1)).toEqual({ field: "", message: expect.stringMatching(/^and 2\d\d more$/) });
});

test("logs no long value", () => {
  expect(Math.max(...app.log.map((line) => JSON.stringify(line).length))).toBeLessThan(maxBodyBytes);
});
