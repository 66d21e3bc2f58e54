import type pg from "pg";
import type { Line, UsageLine } from "../history/records.ts";
import type { Operation, Row } from "./leases.ts";
import type { Verdicts } from "./verdicts.ts";
import type { Versions } from "./versions.ts";

/** Each query returns a row for each difference between two records that must agree. */
const comparisons: Readonly<Record<string, string>> = {
  "usage equals leases and recorded actions": `
    with used as (
      select day, user_id, service, method_group, company_key, settled_points as points from lease where state = 2
      union all
      select usage_day, user_id, service, method_group, company_key, points from audit_action where usage_day is not null
    ),
    summed as (
      select day, user_id, service, method_group, company_key, count(*) as requests, coalesce(sum(points), 0) as points
      from used group by 1, 2, 3, 4, 5
    )
    select coalesce(kept.date, summed.day)::text as day, coalesce(kept.user_id, summed.user_id) as user_id, kept.requests,
      kept.points, summed.requests as summed_requests, summed.points as summed_points
    from usage_with_pending as kept full join summed
      on kept.date = summed.day and kept.user_id = summed.user_id and kept.service = summed.service
        and kept.method_group = summed.method_group and kept.company_key = summed.company_key
    where kept.requests is distinct from summed.requests or kept.points is distinct from summed.points`,
  "unique points equal the points seen": `
    select * from
      (select date, user_id, service, method_group, sum(unique_points) as kept from usage_with_pending group by 1, 2, 3, 4) as one
      full join (select date, user_id, service, method_group, count(*) as seen from usage_point group by 1, 2, 3, 4) as other
        using (date, user_id, service, method_group)
    where coalesce(kept, 0) <> coalesce(seen, 0)`,
  "charged days equal leases": `
    select * from charged_day as kept full join (
      select user_id, service, method_group, day, sum(settled_points) as settled from lease where state = 2 group by 1, 2, 3, 4
    ) as summed using (user_id, service, method_group, day)
    where coalesce(kept.points, 0) <> coalesce(settled, 0)`,
  "each settled lease has one audit action": `
    select operation_id, user_id, settled_points, found.actions, found.points from lease left join lateral (
      select count(*) as actions, sum(audit_action.points) as points from audit_action
      where tracecode = lease.operation_id and audit_action.user_id = lease.user_id
        and audit_action.operation = 'settle_lease' and audit_action.method_group = lease.method_group
        and time between lease.ended_at - interval '1 ms' and lease.ended_at + interval '1 ms'
    ) as found on true
    where state = 2 and (found.actions <> 1 or found.points <> settled_points)`,
  "each audit action of a settlement has its lease": `
    select tracecode, user_id, points from audit_action
    where operation = 'settle_lease' and not exists (
      select from lease
      where operation_id = tracecode and lease.user_id = audit_action.user_id
        and lease.method_group = audit_action.method_group and state = 2 and settled_points = audit_action.points
        and ended_at between audit_action.time - interval '1 ms' and audit_action.time + interval '1 ms'
    )`,
  "audit totals equal the audit log": `
    with counted as (
      select date_trunc('hour', time) as start, company_key, operation, service, method_group, count(*) as total
      from audit_action group by 1, 2, 3, 4, 5
    ),
    kept as (
      select start, name as company_key, operation, service, method_group, total from audit_total where level = 1 and span = 1
      union all
      select date_trunc('hour', start), company_key, operation, service, method_group, total
      from audit_pending, unnest(starts, company_keys, operations, services, method_groups, totals)
        as cell (start, company_key, operation, service, method_group, total)
    ),
    summed as (select start, company_key, operation, service, method_group, sum(total) as kept from kept group by 1, 2, 3, 4, 5)
    select * from counted full join summed using (start, company_key, operation, service, method_group)
    where coalesce(counted.total, 0) <> coalesce(summed.kept, 0)`,
  "user and company totals equal their tables": `
    select company_key, kept.total, counted.total as counted from user_total as kept full join (
      select company_key, count(*) as total from user_account group by 1
    ) as counted using (company_key) where coalesce(kept.total, 0) <> coalesce(counted.total, 0)
    union all
    select 'companies', total, counted from company_total, (select count(*) as counted from company) as company
    where total <> counted`,
};

export async function readRows(client: pg.Client): Promise<Row[]> {
  const { rows } = await client.query<Row>(
    `select operation_id as op, day - date '1970-01-01' as day, username, company_key as company, timezone,
       points::float8 as points, (extract(epoch from granted_at) * 1000)::float8 as "grantedMs",
       (extract(epoch from expire_at) * 1000)::float8 as "expireMs", state, settled_points::float8 as "settledPoints"
     from lease`,
  );
  return rows;
}

export async function checkBooks(client: pg.Client, verdicts: Verdicts): Promise<void> {
  for (const [check, sql] of Object.entries(comparisons)) {
    const { rows } = await client.query<object>(sql);
    if (rows.length === 0) verdicts.expect(check, true, () => "");
    for (const row of rows) verdicts.expect(check, false, () => JSON.stringify(row));
  }
}

/** Checks that every acknowledged action exists exactly once. */
export async function checkRecorded(client: pg.Client, lines: readonly Line[], verdicts: Verdicts): Promise<void> {
  const { rows } = await client.query<{ tracecode: string; points: string; count: string }>(
    "select tracecode, sum(points) as points, count(*) from audit_action where operation = 'recorded_calculation' group by 1",
  );
  const found = new Map(rows.map(({ tracecode, ...row }) => [tracecode, row]));
  for (const line of lines) {
    if (line.call !== "record" || line.failure !== undefined) continue;
    for (const { tracecode, user, points } of line.actions) {
      const row = found.get(tracecode);
      verdicts.expect(
        "no acknowledged action lost",
        row?.count === "1" && Number(row.points) === points,
        () => `${tracecode} of ${user}, ${points} points: ${JSON.stringify(row)}`,
      );
    }
  }
}

/** Checks that each user has the state of the last acknowledged change, or of a later unacknowledged one. */
export async function checkUsers(client: pg.Client, versions: Versions, users: readonly string[], verdicts: Verdicts) {
  const { rows } = await client.query<{ username: string; company_key: string; timezone: number }>(
    "select username, company_key, timezone from user_account",
  );
  const found = new Map(rows.map((row) => [row.username, row]));
  const end = Number.POSITIVE_INFINITY;
  for (const user of users) {
    const row = found.get(user);
    const isGone = versions.life(user).to < end;
    verdicts.expect(
      "no acknowledged change lost",
      isGone
        ? row === undefined
        : row !== undefined &&
            versions.companies(user, end, end).includes(row.company_key) &&
            versions.timezones(user, end, end).includes(row.timezone),
      () => `${user}: ${JSON.stringify(row)}`,
    );
  }
}

/** Checks that the counters match the ledger in some day and window, and hold no reservation. */
export function checkCounters(lines: readonly Line[], operations: readonly Operation[], verdicts: Verdicts): void {
  const used = new Map<string, Map<number, number>>();
  for (const { user, group, rows } of operations) {
    const key = `${user} ${group}`;
    const days = used.get(key) ?? new Map<number, number>();
    used.set(key, days);
    for (const { day, state, settledPoints } of rows) {
      if (state === 2) days.set(day, (days.get(day) ?? 0) + (settledPoints ?? 0));
    }
  }
  for (const line of lines) if (line.call === "usage") checkUsage(line);

  function checkUsage({ user, usages, server }: UsageLine): void {
    for (const { group, dayUsed, windowUsed, reserved, running } of usages) {
      const days = used.get(`${user} ${group}`) ?? new Map<number, number>();
      const name = `${user} ${group} on server ${server}`;
      verdicts.expect(
        "counters hold nothing at the end",
        reserved === 0 && running === 0,
        () => `${name}: ${reserved} reserved, ${running} run`,
      );
      const isDay = dayUsed === 0 || [...days.values()].includes(dayUsed);
      verdicts.expect(
        "counters of the day equal the ledger",
        isDay,
        () => `${name}: ${dayUsed}, the ledger ${JSON.stringify([...days])}`,
      );
      verdicts.expect(
        "counters of the window equal the ledger",
        sumsOf([...days]).has(windowUsed),
        () => `${name}: ${windowUsed}, the ledger ${JSON.stringify([...days])}`,
      );
    }
  }
}

/** Returns the sums of every range of consecutive days. */
function sumsOf(days: readonly (readonly [number, number])[]): Set<number> {
  const sorted = days.toSorted(([left], [right]) => left - right);
  const sums = new Set([0]);
  for (let from = 0; from < sorted.length; from += 1) {
    let sum = 0;
    for (const [, points] of sorted.slice(from)) sums.add((sum += points));
  }
  return sums;
}
