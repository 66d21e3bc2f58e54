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

/** Opens a list that is larger than all buffers on its way, and resolves at its headers without reading the body. */
async function openStalledReader(): Promise<IncomingMessage> {
  const headers = { authorization: `Bearer ${app.admin}` };
  const [response] = await once(get(`${app.url}/admin/companies?limit=20000`, { headers }), "response");
  return response;
}

async function startStalledUpload(end: Promise<void>): Promise<bigint> {
  async function* messages() {
    yield { username, tracecode: randomUUID(), file: { data: randomBytes(600_000) } };
    await end;
    yield { file: { data: randomBytes(600_000) } };
  }
  const client = createClient(DataService, createGrpcTransport({ baseUrl: app.url }));
  return (await client.putData(messages(), { headers: { authorization: `Bearer ${app.admin}` } })).bytes;
}

/** Counts the transactions that are idle. A running transaction between two statements counts as well. */
async function countIdleTransactions(): Promise<number> {
  const { rows } = await app.database.raw(
    "select 1 from pg_stat_activity where datname = current_database() and state = 'idle in transaction'",
  );
  return rows.length;
}

const post = async (path: string, body: object) => app.http("POST", path, { token: app.admin, body });

async function acquireLease(): Promise<string> {
  const request = { username, service: "ROUTING", method_group: "PLAN", points: 1, operation_id: randomUUID() };
  return (await post("/quota/leases", request)).body.lease.lease_id;
}

test("the smallest pool serves every request while as many calls as may hold a connection stall", {
  timeout: 60_000,
}, async () => {
  const [settled, forced] = [await acquireLease(), await acquireLease()];
  const readers = [await openStalledReader(), await openStalledReader()];
  let finishUpload: () => void = () => undefined;
  const end = new Promise<void>((done) => (finishUpload = done));
  const upload = startStalledUpload(end);
  await expect.poll(countIdleTransactions, { timeout: 20_000 }).toBeGreaterThanOrEqual(3);

  // The update removes the user from the cache, so that the release must read the user from the database.
  const user = { username, company_key: "administration", roles: [] };
  const answers = [
    await app.http("PUT", "/admin/users", { token: app.admin, body: user }),
    ...(await Promise.all([
      post(`/quota/leases/${forced}:forceRelease`, {}),
      post(`/quota/leases/${settled}:settle`, { points: 2 }),
      post("/admin/companies", { key: "while_others_stall" }),
      app.http("GET", "/admin/companies?limit=1000", { token: app.admin }),
    ])),
  ];
  expect(answers.map(({ status }) => status)).toEqual([200, 200, 200, 201, 200]);
  expect(await countIdleTransactions()).toBeGreaterThanOrEqual(3);

  finishUpload();
  for (const reader of readers) reader.resume();
  expect(await upload).toBe(1_200_000n);
});
