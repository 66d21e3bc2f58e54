import { randomBytes, randomUUID } from "node:crypto";
import { once } from "node:events";
import { type IncomingMessage, request } from "node:http";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createConnectTransport, createGrpcTransport } from "@connectrpc/connect-node";
import { afterAll, beforeAll, expect, test } from "vitest";
import { DataService } from "#gen/tollgate/v1/data_pb.js";
import { startTestApp, type TestApp } from "../support/app.ts";

const limitMs = 700;
let app: TestApp;
let username: string;
let headers: { authorization: string };
beforeAll(async () => {
  app = await startTestApp({ BODY_TIMEOUT_MS: String(limitMs), DATABASE_POOL: "5" });
  username = await app.user({ roles: ["USER"] });
  headers = { authorization: `Bearer ${await app.token(await app.user({ roles: ["BOT"] }))}` };
});
afterAll(() => app.stop());

const transports = { gRPC: createGrpcTransport, Connect: createConnectTransport };

/** Sends some parts of an upload, then neither another part nor the end. */
function stall(parts: number, protocol: keyof typeof transports): Promise<ConnectError | undefined> {
  async function* messages() {
    const first = { username, tracecode: randomUUID() };
    for (let part = 0; part < parts; part += 1) {
      yield { ...(part === 0 && first), file: { data: randomBytes(300_000) } };
    }
    await new Promise(() => undefined);
  }
  const httpVersion = protocol === "gRPC" ? ("2" as const) : ("1.1" as const);
  const client = createClient(DataService, transports[protocol]({ baseUrl: app.url, httpVersion }));
  return client.putData(messages(), { headers }).then(
    () => undefined,
    (error: unknown) => ConnectError.from(error),
  );
}

async function openTransactions(): Promise<number> {
  const { rows } = await app.database.raw(
    "select 1 from pg_stat_activity where datname = current_database() and state = 'idle in transaction'",
  );
  return rows.length;
}

test.each([
  ["gRPC", 0],
  ["gRPC", 3],
  ["Connect", 3],
] as const)("an upload over %s that stalls after %i parts times out and stores nothing", async (protocol, parts) => {
  const error = await stall(parts, protocol);
  expect([error?.code, error?.rawMessage]).toEqual([
    Code.DeadlineExceeded,
    `the next part of the data did not arrive within ${limitMs} ms`,
  ]);
  expect(await app.database("data_file").count()).toEqual([{ count: 0 }]);
  await expect.poll(() => app.database("data_chunk").count()).toEqual([{ count: 0 }]);
  expect(await openTransactions()).toBe(0);
});

test("readers do not wait for stalled uploads", { timeout: 20_000 }, async () => {
  const stalled = [stall(3, "gRPC"), stall(3, "gRPC")];
  await expect.poll(openTransactions).toBeGreaterThan(0);
  const statistics = app.http("GET", "/admin/statistics", { token: app.admin });
  expect(await Promise.race([statistics.then(({ status }) => status), ...stalled])).toBe(200);
  for (const upload of stalled) expect((await upload)?.code).toBe(Code.DeadlineExceeded);
});

test("an upload of one message does not wait for stalled uploads", { timeout: 20_000 }, async () => {
  const stalled = stall(3, "gRPC");
  await expect.poll(openTransactions).toBeGreaterThan(0);
  const client = createClient(DataService, createGrpcTransport({ baseUrl: app.url }));
  async function* small() {
    yield { username, tracecode: randomUUID(), file: { data: randomBytes(1000) } };
  }
  const { bytes } = await Promise.race([client.putData(small(), { headers }), stalled.then(() => ({ bytes: "late" }))]);
  expect(bytes).toBe(1000n);
  await stalled;
});

test.each(["gRPC", "Connect"] as const)(
  "an upload over %s below the minimum rate times out, although no part is late",
  async (protocol) => {
    let sent = 0;
    async function* trickle() {
      for (; sent < 50; sent += 1) {
        yield {
          ...(sent === 0 && { username, tracecode: randomUUID() }),
          file: { data: randomBytes(sent ? 1 : 300_000) },
        };
        await new Promise((resolve) => setTimeout(resolve, limitMs / 5));
      }
    }
    const httpVersion = protocol === "gRPC" ? ("2" as const) : ("1.1" as const);
    const client = createClient(DataService, transports[protocol]({ baseUrl: app.url, httpVersion }));
    const error = await client.putData(trickle(), { headers }).catch((error: unknown) => ConnectError.from(error));
    expect(error).toMatchObject({ code: Code.DeadlineExceeded, rawMessage: expect.stringContaining("too slowly") });
    expect(sent).toBeLessThan(50);
    await expect.poll(() => app.database("data_chunk").where("start", ">", 262_144).count()).toEqual([{ count: 0 }]);
    expect(await openTransactions()).toBe(0);
  },
);

test("an upload over HTTP below the minimum rate times out", async () => {
  const path = `${app.url}/admin/data/${randomUUID()}?username=${username}`;
  const call = request(path, { method: "PUT", headers });
  const answered = once(call, "response") as Promise<[IncomingMessage]>;
  call.write(randomBytes(300_000));
  const timer = setInterval(() => call.write("x"), limitMs / 5);
  const [{ statusCode }] = await answered.finally(() => clearInterval(timer));
  expect(statusCode).toBe(504);
  call.destroy();
  await expect.poll(openTransactions).toBe(0);
});
