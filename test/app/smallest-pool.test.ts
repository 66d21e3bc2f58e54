import { randomBytes, randomUUID } from "node:crypto";
import { once } from "node:events";
import { get, type IncomingMessage } from "node:http";
import { createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { afterAll, beforeAll, expect, test } from "vitest";
import { DataService } from "#gen/tollgate/v1/data_pb.js";
import { startTestApp, type TestApp } from "../support/app.ts";

let app: TestApp;
let username: string;
beforeAll(async () => {
  app = await startTestApp({ DATABASE_POOL: "5" });
  username = await app.user();
  await app.database.raw(
    "insert into company (key, detail) select 'many_' || n, repeat('x', 1000) from generate_series(1, 20000) as n",
  );
  const { id } = await app.database("user_account").where({ username }).first("id");
  await app.database("quota").insert({
    user_id: id,
    service: "ROUTING",
    method_group: "PLAN",
    points_per_request: 1000,
    points_per_day: 1000,
    max_concurrent_execution: 100,
  });
});
afterAll(() => app.stop());

/** A list that is longer than what waits on its way; who reads it has seen that it begins. */
async function sleepingReader(): Promise<IncomingMessage> {
  const headers = { authorization: `Bearer ${app.admin}` };
  const [response] = await once(get(`${app.url}/admin/companies?limit=20000`, { headers }), "response");
  return response;
}

async function sleepingUpload(end: Promise<void>): Promise<bigint> {
  async function* messages() {
    yield { username, tracecode: randomUUID(), file: { data: randomBytes(600_000) } };
    await end;
    yield { file: { data: randomBytes(600_000) } };
  }
  const client = createClient(DataService, createGrpcTransport({ baseUrl: app.url }));
  return (await client.putData(messages(), { headers: { authorization: `Bearer ${app.admin}` } })).bytes;
}

/** Those that wait for somebody else; a transaction that is between two statements may be one more. */
async function sleeping(): Promise<number> {
  const { rows } = await app.database.raw(
    "select 1 from pg_stat_activity where datname = current_database() and state = 'idle in transaction'",
  );
  return rows.length;
}

const post = async (path: string, body: object) => app.http("POST", path, { token: app.admin, body });

async function lease(): Promise<string> {
  const asked = { username, service: "ROUTING", method_group: "PLAN", points: 1, operation_id: randomUUID() };
  return (await post("/quota/leases", asked)).body.lease.lease_id;
}

test("with the smallest pool everybody is answered while as many as may hold a connection sleep", {
  timeout: 60_000,
}, async () => {
  const [settled, forced] = [await lease(), await lease()];
  const readers = [await sleepingReader(), await sleepingReader()];
  let wake: () => void = () => undefined;
  const end = new Promise<void>((done) => (wake = done));
  const upload = sleepingUpload(end);
  await expect.poll(sleeping, { timeout: 20_000 }).toBeGreaterThanOrEqual(3);

  // What is remembered of the user is forgotten: who frees the lease looks for it.
  const user = { username, company_key: "administration", roles: [] };
  const answers = [
    await app.http("PUT", "/admin/users", { token: app.admin, body: user }),
    ...(await Promise.all([
      post(`/quota/leases/${forced}:forceRelease`, {}),
      post(`/quota/leases/${settled}:settle`, { points: 2 }),
      post("/admin/companies", { key: "while_others_sleep" }),
      app.http("GET", "/admin/companies?limit=1000", { token: app.admin }),
    ])),
  ];
  expect(answers.map(({ status }) => status)).toEqual([200, 200, 200, 201, 200]);
  expect(await sleeping()).toBeGreaterThanOrEqual(3);

  wake();
  for (const reader of readers) reader.resume();
  expect(await upload).toBe(1_200_000n);
});
