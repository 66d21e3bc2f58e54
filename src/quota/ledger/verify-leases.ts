import { Cluster, type Redis } from "ioredis";
import type { Database } from "../../storage/database.ts";

interface Sum {
  readonly user_id: number;
  readonly service: number;
  readonly method_group: number;
  /** YYYY-MM-DD */
  readonly day: string;
  readonly points: number;
}

/**
 * Compares the settled leases of the days from..to, `to` excluded, with the sums that counters are made from and with the
 * audit log, as far back as the log goes. It may run while the servers do.
 * @returns a line for each difference
 */
export async function verifyLeases(database: Database, period: { from: string; to: string }): Promise<string[]> {
  const sums = await database.raw<{ rows: (Omit<Sum, "points"> & { kept: number; settled: number })[] }>(
    `select user_id, service, method_group, day::text, coalesce(kept.points, 0)::float8 as kept,
       coalesce(settled.points, 0)::float8 as settled
     from (select * from charged_day where day >= :from and day < :to) as kept
     full join (
       select user_id, service, method_group, day, sum(settled_points) as points
       from lease where state = 2 and day >= :from and day < :to group by 1, 2, 3, 4
     ) as settled using (user_id, service, method_group, day)
     where coalesce(kept.points, 0) <> coalesce(settled.points, 0) order by 4, 1, 2, 3`,
    period,
  );
  const silent = await database.raw<{ rows: { day: string; user_id: number; operation_id: string }[] }>(
    `select day::text, user_id, operation_id from lease
     where state = 2 and day >= :from and day < :to and ended_at >= (select min(time) from audit_action)
       and not exists (
         select from audit_action
         where time between lease.ended_at - interval '1 ms' and lease.ended_at + interval '1 ms'
           and audit_action.user_id = lease.user_id and audit_action.points = lease.settled_points
           -- Until 1.0 the part was the operation.
           and part in (
             operation_id,
             md5(concat_ws(' ', lease.user_id, lease.service, lease.method_group, day - date '1970-01-01', operation_id))::uuid
           )
       )
     order by day, user_id, operation_id`,
    period,
  );
  return [
    ...sums.rows.map(
      ({ day, user_id, kept, settled }) =>
        `${day} user ${user_id}: counters are made from ${kept} points, the settled leases have ${settled}`,
    ),
    ...silent.rows.map(
      ({ day, user_id, operation_id }) =>
        `${day} user ${user_id}: the audit log has no action of the settled lease of operation ${operation_id}`,
    ),
  ];
}

/** How long a settlement may take from the counters to the ledger: what differs for longer is a difference. */
const settleMs = 1000;

/**
 * Compares the counters in Redis with the ledger, a second time where they differ, since servers may be at work.
 * @returns how many meters there were, and a line for each that differs
 */
export async function verifyCounters(database: Database, redis: Redis | Cluster) {
  const keys = await findKeys(database, redis);
  const suspects = await differencesOf(database, redis, keys);
  if (suspects.size > 0) await new Promise((resolve) => setTimeout(resolve, settleMs));
  const differences = await differencesOf(database, redis, [...suspects.keys()]);
  return { compared: keys.length, differences: [...differences.values()] };
}

async function findKeys(database: Database, redis: Redis | Cluster): Promise<string[]> {
  const { rows } = await database.raw<{ rows: { owner: string }[] }>(
    `select left(md5(identity::text || (select oid from pg_database where datname = current_database())), 12) as owner
     from counter_store`,
  );
  if (rows[0] === undefined) return [];
  const keys: string[] = [];
  for (const node of redis instanceof Cluster ? redis.nodes("master") : [redis]) {
    const found = node.scanStream({ match: `tollgate:${rows[0].owner}:*:state`, count: 1000 });
    for await (const part of found) keys.push(...(part as string[]));
  }
  return [...new Set(keys)];
}

async function differencesOf(database: Database, redis: Redis | Cluster, keys: readonly string[]) {
  const found = new Map<string, string>();
  for (const key of keys) {
    const fields = await redis.hmget(key, "d", "du", "wf", "wt", "wu");
    // A meter that is being made has none of them.
    if (fields.some((field) => field === null)) continue;
    const [day = 0, dayUsed, from = 0, to = 0, windowUsed] = fields.map(Number);
    const [userId, service, methodGroup] = /\{(\d+)\}:(\d+):(\d+):/.exec(key)?.slice(1).map(Number) ?? [];
    const { rows } = await database.raw<{ rows: { day_used: number; window_used: number }[] }>(
      `select coalesce(sum(points) filter (where place = :day), 0)::float8 as day_used,
         coalesce(sum(points) filter (where place >= :from and place < :to), 0)::float8 as window_used
       from (
         select day - date '1970-01-01' as place, points from charged_day
         where user_id = :userId and service = :service and method_group = :methodGroup
       ) as charged`,
      { day, from, to, userId: userId ?? 0, service: service ?? 0, methodGroup: methodGroup ?? 0 },
    );
    const [ledger] = rows;
    if (ledger?.day_used === dayUsed && ledger?.window_used === windowUsed) continue;
    found.set(
      key,
      `user ${userId}, service ${service}, method group ${methodGroup}: the counters have used ${dayUsed} points of the day and ${windowUsed} of the window, the ledger ${ledger?.day_used} and ${ledger?.window_used}`,
    );
  }
  return found;
}
