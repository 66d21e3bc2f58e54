import { randomUUID } from "node:crypto";
import { create } from "@bufbuild/protobuf";
import { Code } from "@connectrpc/connect";
import pino from "pino";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { Data_Flow, type PutDataRequest, PutDataRequestSchema } from "#gen/tollgate/v1/data_pb.js";
import { type RecordedUsage, writeActionBatches } from "../../src/audit/record.ts";
import { createRollUp } from "../../src/audit/roll-up.ts";
import { createActionWriter } from "../../src/audit/writer.ts";
import { storeUpload } from "../../src/data/upload.ts";
import { type Database, openDatabase, type Transaction } from "../../src/postgres/database.ts";
import { dropPartitions, ensurePartitions } from "../../src/postgres/partitions.ts";
import { writeEntries } from "../../src/quotas/ledger/write.ts";
import type { Action, Usage } from "../../src/shared/records.ts";
import { createUsageWriter } from "../../src/usage/writer.ts";
import { startTestApp } from "../support/app.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";

const dayMs = 86_400_000;
const today = Math.floor(Date.UTC(2026, 10, 24) / dayMs);
const nameOf = (day: number) => `lease_${new Date(day * dayMs).toISOString().slice(0, 10).replaceAll("-", "")}`;

let fixture: TestDatabase;
let others: Database[] = [];
beforeEach(async () => {
  fixture = await createTestDatabase();
});
afterEach(async () => {
  for (const database of others) await database.destroy();
  others = [];
  await fixture.drop();
});

/** The pool of another server. */
function openAnother(statementTimeoutMs = 10_000): Database {
  const database = openDatabase({ url: fixture.url, poolSize: 2, statementTimeoutMs });
  others.push(database);
  return database;
}

async function makeDays(...days: number[]): Promise<void> {
  await ensurePartitions(fixture.database, "lease", new Set(days));
}

/** The tables named like days, and whether they are attached partitions. */
async function daysThere(): Promise<Record<string, boolean>> {
  const { rows } = await fixture.database.raw<{ rows: { name: string; attached: boolean }[] }>(
    `select relname as name, inhrelid is not null and not inhdetachpending as attached
     from pg_class left join pg_inherits on inhrelid = pg_class.oid
     where relkind = 'r' and relname like 'lease\\_%' order by relname`,
  );
  return Object.fromEntries(rows.map(({ name, attached }) => [name, attached]));
}

/** Opens a transaction that has read a day: the day cannot be dropped. */
async function readDay(day: number): Promise<Transaction> {
  const reader = await fixture.database.transaction();
  await reader(nameOf(day)).count();
  return reader;
}

/** Interrupts the detaching of a day, which stays pending. */
async function cutShort(day: number): Promise<void> {
  const reader = await readDay(day);
  await expect(dropPartitions(openAnother(200), "lease", day + 1)).rejects.toMatchObject({ code: "55P03" });
  await reader.rollback();
}

describe("dropping old days", () => {
  test("finishes an interrupted detach and continues with later days", async () => {
    await makeDays(today - 3, today - 2, today);
    await cutShort(today - 3);
    await dropPartitions(fixture.database, "lease", today);
    expect(await daysThere()).toEqual({ [nameOf(today)]: true });
  });

  test("drops a table detached by a server that crashed", async () => {
    await makeDays(today - 2, today - 1, today);
    await fixture.database.raw("alter table lease detach partition ??", [nameOf(today - 2)]);
    await dropPartitions(fixture.database, "lease", today);
    expect(await daysThere()).toEqual({ [nameOf(today)]: true });
  });

  test("keeps detached days that are not old, and tables that are not days", async () => {
    await makeDays(today);
    await fixture.database.raw("alter table lease detach partition ??", [nameOf(today)]);
    await fixture.database.raw("create table lease_2001 (); create table lease_20010101_backup ()");
    await dropPartitions(fixture.database, "lease", today);
    expect(Object.keys(await daysThere())).toEqual(["lease_2001", "lease_20010101_backup", nameOf(today)]);
  });

  test("by several servers at once fails none of them", async () => {
    await makeDays(...Array.from({ length: 8 }, (_none, index) => today - index));
    await Promise.all([1, 2, 3].map(() => dropPartitions(openAnother(), "lease", today)));
    await dropPartitions(fixture.database, "lease", today);
    expect(await daysThere()).toEqual({ [nameOf(today)]: true });
  });
});

describe("a day that is needed again", () => {
  test("gets its detached table attached again", async () => {
    await makeDays(today);
    await fixture.database.raw("alter table lease detach partition ??", [nameOf(today)]);
    await ensurePartitions(openAnother(), "lease", new Set([today]));
    expect(await daysThere()).toEqual({ [nameOf(today)]: true });
  });

  test("gets its table attached again after an interrupted detach", async () => {
    await makeDays(today);
    await cutShort(today);
    await ensurePartitions(openAnother(), "lease", new Set([today]));
    expect(await daysThere()).toEqual({ [nameOf(today)]: true });
  });
});

describe("a partition that another server has dropped is created again", () => {
  const silent = pino({ level: "silent" });
  const oldDay = today - 30;
  const whose = { userId: 7, username: "user", companyKey: "company", service: 2, methodGroup: 3 };
  const usageOf = (): Usage => ({ ...whose, day: oldDay, points: 5, pointKeys: [1n] });
  const actionOf = (): Action => {
    const what = { tracecode: randomUUID(), operation: "run_plan", server: "planner", outcome: 1, points: 5 };
    return { ...whose, ...what, timeMicros: oldDay * dayMs * 1000 };
  };
  const books = () => ({
    database: fixture.database,
    actions: createActionWriter(fixture.database, createRollUp({ database: fixture.database, logger: silent })),
    usage: createUsageWriter(fixture.database),
  });
  const count = async (table: string) => Number((await fixture.database(table).count().first())?.["count"]);

  test("when an action of that day is recorded", async () => {
    const record = async () => {
      const batch = {
        records: [{ action: actionOf(), usage: usageOf() }],
        added: new Set<RecordedUsage>(),
        contradicted: [],
      };
      await writeActionBatches(books(), [batch]);
      return batch.added.size;
    };
    expect(await record()).toBe(1);
    await dropPartitions(openAnother(), "audit_action", today);
    expect(await record()).toBe(1);
    await dropPartitions(openAnother(), "usage_point", today);
    expect(await record()).toBe(1);
    expect([await count("audit_action"), await count("usage_point")]).toEqual([2, 1]);
  });

  test("and an action that retention has dropped contradicts nothing", async () => {
    expect(await books().actions.findContradicted(fixture.database, [actionOf()])).toEqual([]);
  });

  test("and a batch that is written again keeps what it has added", async () => {
    const [mine, other] = [actionOf(), actionOf()].map((action) => ({ action, usage: usageOf() })) as [
      RecordedUsage,
      RecordedUsage,
    ];
    const batchOf = (...records: RecordedUsage[]) => ({ records, added: new Set<RecordedUsage>(), contradicted: [] });
    await writeActionBatches(books(), [batchOf(other)]);
    const repeating = { ...other, action: { ...other.action, points: 6 } };
    const batch = batchOf(mine, repeating);
    // A group commit does so when the check for contradictions fails after the commit.
    for (let attempt = 0; attempt < 2; attempt += 1) {
      await writeActionBatches(books(), [batch]);
      expect([[...batch.added], batch.contradicted]).toEqual([[mine], [1]]);
    }
  });

  test("when a lease of that day is settled", async () => {
    const settle = () => {
      const { companyKey, userId, service, methodGroup, username } = whose;
      const about = { operation: "run_plan", server: undefined, points: 5, pointKeys: [], durationMs: 1, outcome: 1 };
      return writeEntries(books(), [
        {
          meter: { userId, service, methodGroup },
          username,
          companyKey,
          operationId: randomUUID(),
          day: oldDay,
          timezone: 0,
          points: 5,
          grantedMs: oldDay * dayMs,
          expireMs: oldDay * dayMs + 60_000,
          tracecode: randomUUID(),
          holder: "planner",
          isHolderKnown: true,
          degraded: false,
          end: { state: "settled", endedMs: oldDay * dayMs, ...about },
        },
      ]);
    };
    await settle();
    await dropPartitions(openAnother(), "lease", today);
    await settle();
    expect(await fixture.database("usage_with_pending").select("requests")).toEqual([{ requests: 2 }]);
    expect(await count("lease")).toBe(1);
  });

  test("when a change on that day is recorded", async () => {
    const app = await startTestApp();
    try {
      await app.company();
      await dropPartitions(app.database, "audit_action", Math.floor(Date.now() / dayMs) + 10);
      const { status } = await app.http("POST", "/admin/companies", { token: app.admin, body: { key: "later" } });
      expect(status).toBe(201);
      // The administrator's login is recorded too, asynchronously.
      expect(await app.database("audit_action").where({ resource: "later" }).count()).toEqual([{ count: 1 }]);
    } finally {
      await app.stop();
    }
  });

  const limits = { maxBytes: 1e9, pieceTimeoutMs: 10_000 };
  const put = (requests: AsyncIterable<PutDataRequest>) => {
    const options = { database: fixture.database, findUser: async () => whose, now: () => oldDay * dayMs, ...limits };
    return storeUpload(options, requests, { isHttp: true, signal: new AbortController().signal });
  };
  const first = (data: Uint8Array) =>
    create(PutDataRequestSchema, {
      tracecode: randomUUID(),
      username: "user",
      dataFlowType: Data_Flow.INPUT,
      dataFlowStage: 0,
      file: { data },
    });

  test("when data of that day is uploaded", async () => {
    async function* requests() {
      yield first(Buffer.from("one"));
    }
    await put(requests());
    await dropPartitions(openAnother(), "data_chunk", today);
    expect(await put(requests())).toMatchObject({ bytes: 3, repeated: false });
    expect(await count("data_chunk")).toBe(1);
  });

  test("but an upload fails when its day is dropped meanwhile", async () => {
    async function* requests() {
      yield first(Buffer.alloc(300_000));
      // The first chunk is being written: the drop can only begin.
      await expect.poll(locked).toBe(true);
      await dropPartitions(openAnother(200), "data_chunk", today).catch(() => undefined);
      yield create(PutDataRequestSchema, { file: { data: Buffer.alloc(300_000) } });
    }
    const locked = async () => {
      const locks = fixture
        .database("pg_locks")
        .whereRaw("relation = 'data_chunk'::regclass and mode = 'RowExclusiveLock'");
      return (await locks).length > 0;
    };
    await expect(put(requests())).rejects.toMatchObject({ code: Code.Unavailable });
    expect([await count("data_chunk"), await count("data_file")]).toEqual([0, 0]);
  });
});
