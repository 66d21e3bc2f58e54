import { randomUUID } from "node:crypto";
import { createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { afterAll, beforeAll, describe, expect, inject, test } from "vitest";
import { QuotaService } from "#gen/tollgate/v1/lease_pb.js";
import { openDatabase } from "../../src/postgres/database.ts";
import { startTestApp, type TestApp } from "../support/app.ts";
import { runCommand } from "../support/command-line.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { noPgBouncer, type PgBouncer, startPgBouncer } from "../support/pgbouncer.ts";

describe.skipIf(noPgBouncer !== "")(`PgBouncer in session mode ${noPgBouncer}`, () => {
  let pooler: PgBouncer;
  let app: TestApp;
  beforeAll(async () => {
    pooler = await startPgBouncer(inject("postgres").url, "session");
    app = await startTestApp({}, { through: pooler.url });
  });
  afterAll(async () => {
    await app?.stop();
    await pooler?.stop();
  });

  test("decisions are granted and settled, and a changed quota holds at once", async () => {
    const username = await app.user();
    await app.user({ username: "planner", roles: ["BOT"] });
    const client = createClient(QuotaService, createGrpcTransport({ baseUrl: app.url }));
    const headers = { authorization: `Bearer ${await app.token("planner")}` };
    const put = (points_per_day: number) =>
      app.http("PUT", `/admin/quotas/${username}`, {
        token: app.admin,
        body: { services: [{ service: "ROUTING", methods: [{ method_group: "PLAN", points_per_day }] }] },
      });
    const acquire = () =>
      client.acquireQuota({ username, service: 2, methodGroup: 3, points: 7, operationId: randomUUID() }, { headers });
    expect((await put(10)).status).toBe(204);
    const { lease } = await acquire();
    await client.settleLease({ leaseId: lease?.leaseId ?? "", points: 7, outcome: 1 }, { headers });
    await expect(acquire()).rejects.toThrow(/points/);
    expect((await put(20)).status).toBe(204);
    expect((await acquire()).lease?.points).toBe(7);
  });

  test("the server holds its lock and listens to notifications", async () => {
    const held = app.database("pg_locks").where({ locktype: "advisory", granted: true }).pluck("mode");
    expect(await held).toContain("ExclusiveLock");
    const sessions = await app
      .database("pg_stat_activity")
      .whereRaw("datname = current_database()")
      .pluck("application_name");
    expect(sessions).toEqual(
      expect.arrayContaining(["tollgate_notifications", "tollgate_server test_server", "tollgate"]),
    );
  });

  test("connections of the pool have their timeouts", async () => {
    const database = openDatabase({ url: pooler.url(app.databaseUrl), poolSize: 1, statementTimeoutMs: 1234 });
    try {
      const names = ["statement_timeout", "lock_timeout", "max_parallel_workers_per_gather"];
      const { rows } = await database.raw("select name, setting from pg_settings where name = any (?)", [names]);
      expect(Object.fromEntries(rows.map((row: { name: string; setting: string }) => [row.name, row.setting]))).toEqual(
        {
          statement_timeout: "1234",
          lock_timeout: "617",
          max_parallel_workers_per_gather: "0",
        },
      );
    } finally {
      await database.destroy();
    }
  });

  test("a statement that PostgreSQL still runs is not taken for a silent connection", async () => {
    const database = openDatabase({ url: pooler.url(app.databaseUrl), poolSize: 1, statementTimeoutMs: 200 });
    try {
      const slow = database.transaction(async (transaction) => {
        await transaction.raw("set local statement_timeout = 0");
        return (await transaction.raw("select 'done' as state, pg_sleep(3)")).rows[0].state as string;
      });
      expect(await slow).toBe("done");
    } finally {
      await database.destroy();
    }
  });
});

describe.skipIf(noPgBouncer !== "")(`PgBouncer in transaction mode ${noPgBouncer}`, () => {
  let pooler: PgBouncer;
  let fixture: TestDatabase;
  beforeAll(async () => {
    pooler = await startPgBouncer(inject("postgres").url, "transaction");
    fixture = await createTestDatabase();
  });
  afterAll(async () => {
    await pooler?.stop();
    await fixture?.drop();
  });
  const rule = "DATABASE_URL: must not be a pooler in transaction mode";

  test("a server does not start", async () => {
    await expect(startTestApp({}, { through: pooler.url })).rejects.toThrow(rule);
  });

  test("doctor and the commands on the database say what to do", async () => {
    const environment = { DATABASE_URL: pooler.url(fixture.url), TOKEN_KEYS: "a-secret-for-tests-that-is-long-enough" };
    const { code, stdout } = await runCommand(["doctor", "--json"], { environment });
    expect({ code, stdout }).toEqual({ code: 1, stdout: expect.stringContaining(rule) });
    const migrated = await runCommand(["migrate"], { environment });
    expect({ ...migrated }).toMatchObject({ stdout: "", stderr: expect.stringContaining(rule) });
  });
});
