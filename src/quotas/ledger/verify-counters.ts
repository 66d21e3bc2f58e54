import { setTimeout as wait } from "node:timers/promises";
import { Cluster, type Redis } from "ioredis";
import type { Database } from "../../postgres/database.ts";
import { defineStatements, queryRows } from "../../postgres/statements.ts";

/** A settlement takes at most this long from the counters to the ledger, or back. A longer difference is reported. */
const defaultSettleMs = 1000;

/**
 * Compares the counters in Redis with the ledger. Servers may be running: see compareMeters().
 * @returns the number of meters, and a line for each that differs
 */
export async function verifyCounters(database: Database, redis: Redis | Cluster, settleMs = defaultSettleMs) {
  const pattern = await findMeterPattern(database);
  const keys = pattern === undefined ? [] : await findKeys(redis, pattern);
  const differences = await compareMeters(database, redis, keys, settleMs);
  return { compared: keys.length, differences: [...differences.values()] };
}

/** Returns the pattern of the keys of all meters of this database in Redis. Undefined before the first server started. */
export async function findMeterPattern(database: Database): Promise<string | undefined> {
  const store = await findStore(database);
  return store && `tollgate:${store.owner}:*:state`;
}

/**
 * Compares meters in Redis with the ledger. Those that differ are read again, because servers may be running: the ledger after
 * a second, then the counters after another one. A meter whose counters are still the same must agree with the ledger. A meter
 * in use must have used points in the ledger that lie between those that its counters had before and after: a smaller
 * difference shows once it rests.
 * @returns a line for each meter that differs, by its key
 */
export async function compareMeters(
  database: Database,
  redis: Redis | Cluster,
  keys: readonly string[],
  settleMs = defaultSettleMs,
): Promise<Map<string, string>> {
  const readCounters = await createReadCounters(database, redis);
  const suspects = new Map<string, { readonly before: Counted; ledger: MeterSums }>();
  for (const key of keys) {
    const before = await readCounters(key);
    if (before === undefined) continue;
    const ledger = await readLedger(database, key, before);
    if (namesOf(ledger).some((name) => ledger[name] !== before.sums[name])) {
      suspects.set(key, { before, ledger });
    }
  }
  const found = new Map<string, string>();
  if (suspects.size === 0) return found;
  await wait(settleMs);
  for (const [key, suspect] of suspects) suspect.ledger = await readLedger(database, key, suspect.before);
  await wait(settleMs);
  for (const [key, { before, ledger }] of suspects) {
    const after = await readCounters(key);
    if (after === undefined || placeOf(after) !== placeOf(before)) continue;
    const isInUse = namesOf(ledger).some((name) => before.sums[name] !== after.sums[name]);
    const differing = namesOf(ledger).filter((name) =>
      isInUse
        ? isUsed(name) && (ledger[name] < before.sums[name] || ledger[name] > after.sums[name])
        : ledger[name] !== after.sums[name],
    );
    if (differing.length === 0) continue;
    const { userId, service, methodGroup } = partsOf(key);
    const both = differing.map((name) => `${labels[name]} ${after.sums[name]}, the ledger ${ledger[name]}`).join("; ");
    found.set(key, `user ${userId}, service ${service}, method group ${methodGroup}: counters: ${both}`);
  }
  return found;
}

interface Store {
  /** Identifies the database in the names of keys. */
  readonly owner: string;
  readonly generation: number;
}

async function findStore(database: Database): Promise<Store | undefined> {
  const [row] = await queryRows<Store>(database, sql.findStore);
  return row;
}

async function findKeys(redis: Redis | Cluster, pattern: string): Promise<string[]> {
  const keys: string[] = [];
  for (const node of redis instanceof Cluster ? redis.nodes("master") : [redis]) {
    for await (const part of node.scanStream({ match: pattern, count: 1000 })) keys.push(...(part as string[]));
  }
  return [...new Set(keys)];
}

/** The counters of a meter at one moment of Redis' clock. */
interface Counted {
  readonly day: number;
  readonly from: number;
  readonly to: number;
  readonly nowMs: number;
  readonly sums: MeterSums;
}

/** The day and the window of counters: points of other ones cannot be compared with them. */
function placeOf({ day, from, to }: Counted): string {
  return `${day} ${from} ${to}`;
}

function partsOf(key: string) {
  const [userId = 0, service = 0, methodGroup = 0] = /\{(\d+)\}:(\d+):(\d+):/.exec(key)?.slice(1).map(Number) ?? [];
  return { userId, service, methodGroup };
}

async function readLedger(database: Database, key: string, { day, from, to, nowMs }: Counted): Promise<MeterSums> {
  const { userId, service, methodGroup } = partsOf(key);
  const values = [userId, service, methodGroup, day, from, to, nowMs];
  const [sums] = await queryRows<MeterSums>(database, sql.sumLedger, values);
  if (sums === undefined) throw new Error("the sums of a meter are one row");
  return sums;
}

/** The used and reserved points and the live leases of a meter. */
interface MeterSums {
  readonly dayUsed: number;
  readonly windowUsed: number;
  readonly dayReserved: number;
  readonly windowReserved: number;
  readonly running: number;
}

function namesOf(sums: MeterSums): (keyof MeterSums)[] {
  return Object.keys(sums) as (keyof MeterSums)[];
}

/** Used points only grow within a day or a window. Reserved points and leases come and go. */
function isUsed(name: keyof MeterSums): boolean {
  return name === "dayUsed" || name === "windowUsed";
}

const labels: Readonly<Record<keyof MeterSums, string>> = {
  dayUsed: "used points of the day:",
  windowUsed: "used points of the window:",
  dayReserved: "reserved points of the day:",
  windowReserved: "reserved points of the window:",
  running: "live leases:",
};

/**
 * Returns a function that reads the counters of a meter, without leases that have expired since its last command. It returns
 * undefined for a meter that waits for its prime, or is of an earlier generation: it has no counters.
 */
async function createReadCounters(database: Database, redis: Redis | Cluster) {
  const { generation = 0 } = (await findStore(database)) ?? {};
  return async (key: string): Promise<Counted | undefined> => {
    const reply = await redis.eval(readScript, 2, key, key.replace(/:state$/, ":leases"), generation);
    if (!Array.isArray(reply)) return undefined;
    const [
      day = 0,
      from = 0,
      to = 0,
      nowMs = 0,
      dayUsed = 0,
      windowUsed = 0,
      dayReserved = 0,
      windowReserved = 0,
      running = 0,
    ] = reply.map(Number);
    return { day, from, to, nowMs, sums: { dayUsed, windowUsed, dayReserved, windowReserved, running } };
  };
}

/** Reads the counters of meter.lua. Their reserved points include leases that expired since the last command. */
const readScript = `
  local generation, day, day_used, day_reserved, from, to, window_used, window_reserved = string.match(
    redis.call('HGET', KEYS[1], 's') or '', '^(%S+) %S+ (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) ')
  if not generation or tonumber(generation) < tonumber(ARGV[1]) then return false end
  day, from, to = tonumber(day), tonumber(from), tonumber(to)
  day_reserved, window_reserved = tonumber(day_reserved), tonumber(window_reserved)
  local time = redis.call('TIME')
  local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
  for _, name in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '(0', string.format('%.0f', now))) do
    local of_day, points = string.match(redis.call('HGET', KEYS[1], 'l' .. name), '^%a (%-?%d+) %-?%d+ (%d+)')
    of_day, points = tonumber(of_day), tonumber(points)
    if of_day == day then day_reserved = day_reserved - points end
    if from <= of_day and of_day < to then window_reserved = window_reserved - points end
  end
  local live = redis.call('ZCOUNT', KEYS[2], '(' .. string.format('%.0f', now), '+inf')
  return { day, from, to, string.format('%.0f', now), day_used, window_used, tostring(day_reserved),
    tostring(window_reserved), live }`;

const sql = defineStatements("verify-counters", {
  findStore: `
    select left(md5(identity::text || (select oid from pg_database where datname = current_database())), 12) as owner,
      generation
    from counter_store`,
  sumLedger: `
    select * from (
      select coalesce(sum(points) filter (where place = $4), 0)::float8 as "dayUsed",
        coalesce(sum(points) filter (where place >= $5 and place < $6), 0)::float8 as "windowUsed"
      from (
        select day - date '1970-01-01' as place, points from charged_day
        where user_id = $1 and service = $2 and method_group = $3
      ) as charged
    ) as used, (
      select coalesce(sum(points) filter (where place = $4), 0)::float8 as "dayReserved",
        coalesce(sum(points) filter (where place >= $5 and place < $6), 0)::float8 as "windowReserved",
        count(*)::float8 as running
      from (
        select day - date '1970-01-01' as place, points from lease
        where user_id = $1 and service = $2 and method_group = $3
          and state = 0 and expire_at > to_timestamp($7::float8 / 1000)
      ) as live
    ) as reserved`,
});
