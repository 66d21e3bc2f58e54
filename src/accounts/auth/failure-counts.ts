import type { Cluster, Redis } from "ioredis";
import { textColumnOf } from "../../postgres/columns.ts";
import type { Database } from "../../postgres/database.ts";
import { defineStatements, executeStatement, keepPlan, queryRows } from "../../postgres/statements.ts";

/** The failed logins of a key in its window. The window begins with the first failure. */
export interface FailureCount {
  readonly failures: number;
  /** The end of the window in milliseconds since the epoch. 0 when there is no window. */
  readonly endMs: number;
}

/** Counts failed logins for all servers. Results are in the order of the keys. */
export interface FailureCounts {
  /** Counts one failure of each key, in one atomic step. */
  add(keys: readonly string[], windowMs: number): Promise<FailureCount[]>;
  read(keys: readonly string[]): Promise<FailureCount[]>;
  forget(key: string): Promise<void>;
}

/** Counts in Redis, or in PostgreSQL when Redis is not configured or does not respond. */
export function createFailureCounts(
  { database, redis }: { readonly database: Database; readonly redis: Redis | Cluster | undefined },
  now: () => number,
): FailureCounts {
  const inDatabase = countInDatabase(database, now);
  if (redis === undefined) return inDatabase;
  const inRedis = countInRedis(redis, now);
  return {
    add: (keys, windowMs) => inRedis.add(keys, windowMs).catch(() => inDatabase.add(keys, windowMs)),
    read: (keys) => inRedis.read(keys).catch(() => inDatabase.read(keys)),
    forget: (key) => inRedis.forget(key).catch(() => inDatabase.forget(key)),
  };
}

interface Row {
  readonly key: string;
  readonly points: number;
  readonly expire: number;
}

/** Expired rows that each failure deletes: more than it adds. */
const deletedByFailure = 10;

function countInDatabase(database: Database, now: () => number): FailureCounts {
  const inOrder = (keys: readonly string[], rows: readonly Row[]) =>
    keys.map((key) => {
      const row = rows.find((found) => found.key === key);
      return { failures: row?.points ?? 0, endMs: row?.expire ?? 0 };
    });
  return {
    async add(keys, windowMs) {
      const values = [textColumnOf(keys, (key) => key), now(), now() + windowMs];
      return inOrder(keys, await queryRows<Row>(database, sql.addFailure, values));
    },
    async read(keys) {
      const values = [textColumnOf(keys, (key) => key), now()];
      return inOrder(keys, await queryRows<Row>(database, sql.readFailures, values));
    },
    async forget(key) {
      await executeStatement(database, sql.deleteFailures, [key]);
    },
  };
}

const sql = defineStatements("failure-counts", {
  addFailure: keepPlan(`
    with ended as (
      delete from login_attempt where key in (
        select key from login_attempt where expire <= $2 and key <> all ($1)
        limit ${deletedByFailure} for update skip locked
      )
    )
    insert into login_attempt as kept (key, points, expire)
    -- In key order: two writers must not deadlock.
    select key, 1, $3 from unnest($1::text[]) as key order by key
    on conflict (key) do update set
      points = case when kept.expire <= $2 then 1 else kept.points + 1 end,
      expire = case when kept.expire <= $2 then excluded.expire else kept.expire end
    returning key, points, expire`),
  readFailures: keepPlan("select key, points, expire from login_attempt where key = any ($1) and expire > $2"),
  deleteFailures: "delete from login_attempt where key = $1",
});

/** The keys of one call share a hash tag, so a Redis Cluster accepts them in one transaction. */
function countInRedis(redis: Redis | Cluster, now: () => number): FailureCounts {
  /** Runs the commands of each key in one transaction. The last two replies of a key are failures and time left. */
  async function each(keys: readonly string[], commands: (key: string) => readonly (readonly (string | number)[])[]) {
    const perKey = keys.map(commands);
    const replies = await redis.multi(perKey.flat().map((command) => [...command])).exec();
    const results = (replies ?? []).map(([error, result]) => {
      if (error !== null) throw error;
      return Number(result ?? 0);
    });
    if (results.length !== perKey.flat().length) throw new Error("redis did not run the transaction");
    return perKey.map((own, index) => {
      const start = perKey.slice(0, index).reduce((sum, { length }) => sum + length, 0);
      const [failures = 0, leftMs = 0] = results.slice(start, start + own.length).slice(-2);
      return { failures, endMs: leftMs > 0 ? now() + leftMs : 0 };
    });
  }
  return {
    add: (keys, windowMs) =>
      each(keys, (key) => [
        ["set", key, 0, "PX", windowMs, "NX"],
        ["incr", key],
        ["pttl", key],
      ]),
    read: (keys) =>
      each(keys, (key) => [
        ["get", key],
        ["pttl", key],
      ]),
    async forget(key) {
      await redis.del(key);
    },
  };
}
