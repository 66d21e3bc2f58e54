import { setImmediate as endOfTurn } from "node:timers/promises";
import { Method_Group, Service_Name } from "#gen/tollgate/v1/tracedata_pb.js";
import { textColumnOf } from "../../postgres/columns.ts";
import type { Database } from "../../postgres/database.ts";
import { defineStatements, keepPlan, queryRows } from "../../postgres/statements.ts";
import { type CacheUses, createFreshCache } from "../../shared/cache.ts";
import { dayAt, toIsoDay } from "../../shared/calendar.ts";
import { fromStoredName } from "../../shared/stored-names.ts";
import { type Threshold, toThreshold } from "../../shared/thresholds.ts";
import type { Meter, QuotaLimits, Rules } from "../counters/engine.ts";

/** A user with the quotas that decisions need. */
export interface Subject {
  readonly userId: number;
  readonly username: string;
  readonly companyKey: string;
  readonly enabled: boolean;
  /** Hours from UTC. */
  readonly timezone: number;
  /** Quotas of the days around now, by methodKey(). */
  readonly quotas: ReadonlyMap<string, readonly QuotaLimits[]>;
  /** The thresholds of alerts that the API has set, of the user or else of the company. */
  readonly alertThresholds?: readonly Threshold[] | undefined;
}

/** A cache of users and their quotas, invalidated when they change. */
export interface Subjects {
  /** Returns the cached user. Returns undefined when it is not cached, which says nothing about whether it exists. */
  peek(username: string): Subject | undefined;
  byName(username: string): Promise<Subject | undefined>;
  byId(userId: number): Promise<Subject | undefined>;
  /** Invalidates the cached users. */
  invalidate(userIds: readonly number[] | "all"): void;
  readonly cacheUses: CacheUses;
}

export interface SubjectsOptions {
  readonly database: Database;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
  /** How long changes may have gone unnoticed, in milliseconds. 0: every change leads to `invalidate`. */
  readonly unnoticedMs: () => number;
}

/** Users that are read by one query. Names are added until the turn of the event loop ends. */
interface Reading {
  readonly usernames: string[];
  readonly found: Promise<ReadonlyMap<string, Subject>>;
  /** The users that have changed since it began. */
  readonly changed: Set<number>;
}

const maxSubjects = 50_000;
/** The most names of one query. Each caller waits for all of them. */
const maxNames = 100;
/** The counters' clock decides which day it is. The clock of this server may differ by this many days. */
const clockDays = 5;

/** Creates the cache of users with their quotas. */
export function createSubjects({ database, now, unnoticedMs }: SubjectsOptions): Subjects {
  /** The names of the cached users, by id. */
  const names = new Map<number, string>();
  const byName = createFreshCache<Subject>({
    load,
    max: maxSubjects,
    unnoticedMs,
    onKeep({ userId, username }) {
      const before = names.get(userId);
      // The user was renamed. Its notification is still to come, and would forget the new name only.
      if (before !== undefined && before !== username) byName.forget(before);
      names.set(userId, username);
    },
    onForget: ({ userId }) => names.delete(userId),
  });

  const readings = new Set<Reading>();
  /** The reading that takes the next name. */
  let next: Reading | undefined;

  /** Loads a user, with others of this turn of the event loop in one query. */
  async function load(username: string): Promise<Subject | undefined> {
    const reading = next === undefined || next.usernames.length === maxNames ? beginReading() : next;
    next = reading;
    reading.usernames.push(username);
    const subject = (await reading.found).get(username);
    // The query may have run before the change.
    if (subject !== undefined && reading.changed.has(subject.userId)) byName.forget(username);
    return subject;
  }

  function beginReading(): Reading {
    const usernames: string[] = [];
    const read = async () => {
      await endOfTurn();
      if (next === reading) next = undefined;
      return find(database, usernames, now()).finally(() => readings.delete(reading));
    };
    const reading: Reading = { usernames, changed: new Set(), found: read() };
    readings.add(reading);
    return reading;
  }

  return {
    peek: (username) => byName.peek(username),
    byName: (username) => byName.get(username),
    async byId(userId) {
      const name = names.get(userId) ?? (await findName(database, userId));
      const subject = name === undefined ? undefined : (byName.peek(name) ?? (await byName.get(name)));
      return subject?.userId === userId ? subject : undefined;
    },
    invalidate(userIds) {
      if (userIds === "all") return byName.forgetAll();
      for (const userId of userIds) {
        // The name of a user that is being read for the first time is not known yet.
        for (const { changed } of readings) changed.add(userId);
        const name = names.get(userId);
        if (name !== undefined) byName.forget(name);
      }
    },
    cacheUses: byName.uses,
  };
}

/** Returns the key of a service and method group in the quotas of a subject. */
export function methodKey(service: number, methodGroup: number): string {
  return `${service}/${methodGroup}`;
}

/** Reads the text of methodKey. */
export function parseMethodKey(key: string): { service: number; methodGroup: number } {
  const [service, methodGroup] = key.split("/").map(Number);
  return { service: service ?? 0, methodGroup: methodGroup ?? 0 };
}

/** Returns the meter of a user for a service and method group. */
export function meterOf({ userId }: Subject, service: number, methodGroup: number): Meter {
  return { userId, service, methodGroup };
}

/**
 * Returns the rules by which the counters decide.
 * @param byDefault the quotas of days that have none
 */
export function rulesOf(
  { timezone, quotas }: Subject,
  service: number,
  methodGroup: number,
  byDefault: readonly QuotaLimits[],
): Rules {
  const own = quotas.get(methodKey(service, methodGroup)) ?? [];
  const complete = byDefault.length === 0 || own.some(({ period }) => period === undefined);
  return { timezone, quotas: complete ? own : [...own, ...byDefault] };
}

interface Row {
  id: number;
  username: string;
  company_key: string;
  enabled: boolean;
  timezone: number;
  quotas: QuotaRow[] | null;
  thresholds: string[] | null;
}

interface QuotaRow {
  service: string;
  method_group: string;
  from: number | null;
  to: number | null;
  points_per_request: number;
  points_per_day: number;
  points_per_date_window: number | null;
  max_concurrent_execution: number | null;
}

/** Reads users, their quotas and thresholds in one statement, so all are of one snapshot. Days are counted from 1970-01-01. */
async function find(
  database: Database,
  usernames: readonly string[],
  nowMs: number,
): Promise<ReadonlyMap<string, Subject>> {
  const today = toIsoDay(dayAt(nowMs, 0));
  const rows =
    usernames.length === 1
      ? await queryRows<Row>(database, sql.findSubject, [usernames[0], today, clockDays])
      : await queryRows<Row>(database, sql.findSubjects, [textColumnOf(usernames, (name) => name), today, clockDays]);
  return new Map(rows.map((row) => [row.username, toSubject(row)]));
}

const findWhere = (condition: string) => `
    select id, username, company_key, enabled, timezone, (
      select json_agg(json_build_object(
        'service', service, 'method_group', method_group,
        'from', lower(period) - date '1970-01-01', 'to', upper(period) - date '1970-01-01',
        'points_per_request', points_per_request, 'points_per_day', points_per_day,
        'points_per_date_window', points_per_date_window, 'max_concurrent_execution', max_concurrent_execution))
      from quota
      where user_id = user_account.id
        and (period is null or period && daterange($2::date - $3::integer, $2::date + $3::integer + 1))
    ) as quotas, coalesce(
      (select thresholds from alert_threshold where user_id = user_account.id),
      (select thresholds from alert_threshold where company_key = user_account.company_key)
    ) as thresholds
    from user_account where ${condition}`;

const sql = defineStatements("subjects", {
  findSubject: keepPlan(findWhere("username = $1")),
  // PostgreSQL still plans it for a few names, because that plan costs less than one for any number. It is parsed once.
  findSubjects: keepPlan(findWhere("username = any($1::text[])")),
  findName: "select username from user_account where id = $1",
});

async function findName(database: Database, userId: number): Promise<string | undefined> {
  const [row] = await queryRows<Pick<Row, "username">>(database, sql.findName, [userId]);
  return row?.username;
}

function toSubject(row: Row): Subject {
  const quotas = new Map<string, QuotaLimits[]>();
  for (const quota of row.quotas ?? []) {
    const key = methodKey(
      Service_Name[fromStoredName("service", quota.service) as keyof typeof Service_Name],
      Method_Group[fromStoredName("methodGroup", quota.method_group) as keyof typeof Method_Group],
    );
    quotas.set(key, [...(quotas.get(key) ?? []), toLimits(quota)]);
  }
  const { id: userId, username, company_key: companyKey, enabled, timezone } = row;
  return { userId, username, companyKey, enabled, timezone, quotas, alertThresholds: row.thresholds?.map(toThreshold) };
}

function toLimits(row: QuotaRow): QuotaLimits {
  const { from, to, points_per_date_window: window } = row;
  const isOneDay = from !== null && to === from + 1;
  return {
    ...(from !== null && to !== null && { period: { from, to } }),
    pointsPerRequest: row.points_per_request,
    pointsPerDay: row.points_per_day,
    // The contract ignores points_per_date_window in a period of one day.
    ...(window !== null && !isOneDay && { pointsPerDateWindow: window }),
    ...(row.max_concurrent_execution !== null && { maxConcurrentExecution: row.max_concurrent_execution }),
  };
}
