import { once } from "node:events";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { text } from "node:stream/consumers";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Json } from "../support/app.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { type ServerProcess, startProcess } from "../support/process.ts";
import { noRedis, startRedis, type TestRedis } from "../support/redis.ts";

const keys = { TOKEN_KEYS: "a-secret-for-tests-that-is-long-enough", ADMIN_PASSWORD: "first administrator" };
const traceId = "4bf92f3577b34da6a3ce929d0e0e4736";
const traceparent = `00-${traceId}-00f067aa0ba902b7-01`;

let fixture: TestDatabase;
let redis: TestRedis;
let collector: Collector;
let server: ServerProcess;

beforeAll(async () => {
  fixture = await createTestDatabase();
});
afterAll(() => fixture.drop());

describe.skipIf(noRedis !== "")(`with a collector ${noRedis}`, () => {
  beforeAll(async () => {
    redis = await startRedis();
    collector = await startCollector();
    server = await startProcess({
      ...keys,
      DATABASE_URL: fixture.url,
      REDIS_URL: redis.url,
      QUOTA_DEFAULT: "unlimited",
      OTEL_EXPORTER_OTLP_ENDPOINT: collector.url,
      OTEL_BSP_SCHEDULE_DELAY: "50",
    });
  });
  afterAll(async () => {
    await server.end();
    collector.close();
    await redis.kill();
  });

  test("a call continues the caller's trace, from the decision to the ledger", async () => {
    const token = await call("/admin/token/generation", { username: "admin", password: keys.ADMIN_PASSWORD });
    const { lease, tracecode } = await call("/quota/leases", acquisition, token.token, { traceparent });
    await call(`/quota/leases/${lease.lease_id}:settle`, { points: 3 }, token.token, { traceparent });

    const acquire = await found(({ name }) => name === "tollgate.v1.QuotaService/AcquireQuota");
    expect(acquire).toMatchObject({ traceId, parentSpanId: "00f067aa0ba902b7", kind: 2, service: "tollgate" });
    expect(attributesOf(acquire)).toMatchObject({
      "rpc.response.status_code": "OK",
      "tollgate.tracecode": tracecode,
    });
    const decision = await found((span) => span.name === "decide quotas" && span.parentSpanId === acquire.spanId);
    expect(decision.traceId).toBe(traceId);

    const settle = await found(({ name }) => name === "tollgate.v1.QuotaService/SettleLease");
    const batch = await found(
      ({ name, links = [] }) =>
        name === "write the ledger" && links.some(({ spanId }: Json) => spanId === settle.spanId),
    );
    expect(batch.parentSpanId ?? "").toBe("");
    const statement = await found(
      (span) => span.name === "ledger-write.settleLeases" && span.parentSpanId === batch.spanId,
    );
    expect(attributesOf(statement)["db.query.text"]).toContain("insert into lease");
  });

  test("log lines of a call have its trace id", async () => {
    const { tracedata } = await call("/admin/users/missing", undefined, "invalid", { traceparent });
    const lines = () =>
      server
        .output()
        .split("\n")
        .filter((line) => line.includes(tracedata.code));
    await expect.poll(() => lines().length).toBe(1);
    const span = await found((found) => attributesOf(found)["tollgate.tracecode"] === tracedata.code);
    expect(JSON.parse(lines()[0] ?? "")).toMatchObject({ trace_id: traceId, span_id: span.spanId });
    expect(attributesOf(span)).toMatchObject({
      "rpc.response.status_code": "Unauthenticated",
      "tollgate.reason": "TOKEN_INVALID",
    });
  });

  test("no span holds a password, a token or a parameter of a statement", async () => {
    const { token } = await call("/admin/token/generation", { username: "admin", password: keys.ADMIN_PASSWORD });
    await call("/admin/companies", { company_key: "canary_company", name: "canary company" }, token);
    await found(({ name }) => name.endsWith("/CreateCompany"));
    expect(JSON.stringify(collector.spans())).not.toMatch(/first administrator|canary|eyJ/);
  });

  test("a collector that fails is logged once, and calls go on", async () => {
    collector.fail();
    const before = collector.exports();
    await expect
      .poll(async () => {
        await call("/admin/system/check");
        return collector.exports() - before;
      })
      .toBeGreaterThan(2);
    await expect.poll(() => server.output()).toContain("span export failed");
    expect(server.output().match(/span export failed/g)).toHaveLength(1);
  });
});

test.each([
  ["without a collector no library of OpenTelemetry is loaded", "", false],
  ["with a collector they are", "http://127.0.0.1:1", true],
])("%s", async (_, endpoint, isLoaded) => {
  const environment = { ...keys, DATABASE_URL: fixture.url, OTEL_EXPORTER_OTLP_ENDPOINT: endpoint };
  // Node prints each module that it loads.
  const plain = await startProcess({ ...environment, NODE_DEBUG: "esm" });
  await plain.end();
  expect(plain.output().includes("node_modules/@opentelemetry/")).toBe(isLoaded);
});

const acquisition = {
  operation_id: "0f3c2a52-6f0a-4b57-8d54-3a1f0c7f9a11",
  username: "admin",
  service: "UNIVERSAL",
  method_group: "PLAN",
  points: 3,
};

async function call(path: string, body?: Json, token?: string, headers: Record<string, string> = {}): Promise<Json> {
  const response = await fetch(`${server.url}${path}`, {
    method: body === undefined ? "GET" : "POST",
    headers: {
      ...headers,
      "content-type": "application/json",
      ...(token !== undefined && { authorization: `Bearer ${token}` }),
    },
    ...(body !== undefined && { body: JSON.stringify(body) }),
  });
  return { ...((await response.json()) as object), tracecode: response.headers.get("tracecode") };
}

/** Waits for a span that has arrived at the collector. */
async function found(matches: (span: Json) => boolean): Promise<Json> {
  await expect.poll(() => collector.spans().some(matches)).toBe(true);
  return collector.spans().find(matches);
}

function attributesOf({ attributes }: Json): Json {
  return Object.fromEntries(attributes.map(({ key, value }: Json) => [key, Object.values(value)[0]]));
}

interface Collector {
  readonly url: string;
  spans(): Json[];
  exports(): number;
  /** Answers 400 from now on, which is not retried. */
  fail(): void;
  close(): void;
}

/** Receives OTLP over HTTP with JSON. */
async function startCollector(): Promise<Collector> {
  const spans: Json[] = [];
  let exports = 0;
  let isFailing = false;
  const receive = async (request: IncomingMessage, response: ServerResponse) => {
    const { resourceSpans } = JSON.parse(await text(request));
    exports += 1;
    if (isFailing) return void response.writeHead(400).end();
    for (const { resource, scopeSpans } of resourceSpans) {
      const service = attributesOf(resource)["service.name"];
      spans.push(...scopeSpans.flatMap((scope: Json) => scope.spans.map((span: Json) => ({ ...span, service }))));
    }
    response.writeHead(200, { "content-type": "application/json" }).end("{}");
  };
  const http = createServer((request, response) => void receive(request, response));
  http.listen(0, "127.0.0.1");
  await once(http, "listening");
  return {
    url: `http://127.0.0.1:${(http.address() as AddressInfo).port}`,
    spans: () => spans,
    exports: () => exports,
    fail: () => void (isFailing = true),
    close: () => http.close(),
  };
}
