import { columnOf, textColumnOf } from "../postgres/columns.ts";
import type { Database, Transaction } from "../postgres/database.ts";
import { ensurePartitions } from "../postgres/partitions.ts";
import { defineStatements, executeStatement } from "../postgres/statements.ts";
import type { UsageWriter } from "../shared/records.ts";

/** Maximum points per statement: a record may hold more than a statement can write in time. */
export const maxPoints = 20_000;

type Counted = Parameters<UsageWriter["countPoints"]>[1][number];

interface PointOfUsage {
  readonly usage: Counted;
  readonly key: bigint;
}

/** Creates the partitions of points, and counts points that are too many for one statement. */
export function createUsageWriter(database: Database): UsageWriter {
  return {
    async prepare(usages) {
      const withPoints = usages.filter(({ pointKeys }) => pointKeys.length > 0);
      await ensurePartitions(database, "usage_point", new Set(withPoints.map(({ day }) => day)));
    },
    countPoints: countUniquePoints,
  };
}

/** Formats a column with the points of each row, for `point_keys::bigint[]`. */
export function pointColumnOf<Row>(rows: readonly Row[], pick: (row: Row) => readonly bigint[] | undefined): string {
  return textColumnOf(rows, (row) => {
    const keys = pick(row) ?? [];
    return keys.length === 0 ? undefined : columnOf(keys, toSigned);
  });
}

/** bigint is signed in PostgreSQL. */
function toSigned(key: bigint): bigint {
  return BigInt.asIntN(64, key);
}

/** Counts the points that are new on the user's day, for the company in which they occur first. */
async function countUniquePoints(transaction: Transaction, usages: readonly Counted[]): Promise<void> {
  const points = usages.flatMap((usage) => usage.pointKeys.map((key) => ({ usage, key })));
  for (let start = 0; start < points.length; start += maxPoints) {
    await countPoints(transaction, points.slice(start, start + maxPoints));
  }
}

async function countPoints(transaction: Transaction, points: readonly PointOfUsage[]): Promise<void> {
  await executeStatement(transaction, sql.countPoints, [
    ...keyColumns(points.map(({ usage }) => usage)),
    columnOf(points, ({ key }) => toSigned(key)),
  ]);
}

/** Returns the columns of the key, for unnest. */
function keyColumns(usages: readonly Counted[]): string[] {
  return [
    columnOf(usages, ({ userId }) => userId),
    columnOf(usages, ({ service }) => service),
    columnOf(usages, ({ methodGroup }) => methodGroup),
    columnOf(usages, ({ day }) => day),
    textColumnOf(usages, ({ companyKey }) => companyKey),
  ];
}

/**
 * Parts of a statement that add the rows of `usage (user_id, service, method_group, date, username, company_key, points)`
 * and the points of `seen (place, user_id, service, method_group, date, company_key, point_keys)`. A point counts once on a
 * day, for the company in which it occurs first. Points are written before the sums, and both in key order: two writers must
 * not deadlock.
 */
export const addUsageParts = `
    given_point as (
      select distinct on (user_id, service, method_group, date, point_key)
        user_id, service, method_group, date, point_key, company_key
      from seen cross join unnest(point_keys) as point_key
      order by user_id, service, method_group, date, point_key, place
    ),
    new_point as (
      insert into usage_point (user_id, service, method_group, date, point_key)
      select user_id, service, method_group, date, point_key from given_point order by 1, 2, 3, 4, 5
      on conflict do nothing
      returning user_id, service, method_group, date, point_key, true as is_new
    ),
    added_usage as (
      insert into usage_day as kept (
        date, user_id, service, method_group, username, company_key, requests, points, unique_points
      )
      select date, user_id, service, method_group, min(username), company_key, sum(requests), sum(points),
        sum(unique_points)
      from (
        select date, user_id, service, method_group, username, company_key, 1 as requests, points, 0 as unique_points
        from usage
        union all
        -- A full join is never a nested loop, whatever the estimates are.
        select date, user_id, service, method_group, null, company_key, 0, 0, count(is_new)
        from given_point full join new_point using (user_id, service, method_group, date, point_key)
        group by 1, 2, 3, 4, 6
      ) as added
      group by date, user_id, service, method_group, company_key
      order by user_id, service, method_group, date, company_key
      on conflict (user_id, date, service, method_group, company_key) do update set
        requests = kept.requests + excluded.requests, points = kept.points + excluded.points,
        unique_points = kept.unique_points + excluded.unique_points
    )`;

const sql = defineStatements("usage-writer", {
  countPoints: `
    with given as (
      select distinct on (user_id, service, method_group, date, point_key)
        user_id, service, method_group, date '1970-01-01' + day as date, point_key, company_key
      from unnest($1::bigint[], $2::smallint[], $3::smallint[], $4::integer[], $5::text[], $6::bigint[]) with ordinality
        as usage (user_id, service, method_group, day, company_key, point_key, place)
      order by user_id, service, method_group, date, point_key, place
    ),
    added as (
      insert into usage_point (user_id, service, method_group, date, point_key)
      select user_id, service, method_group, date, point_key from given order by 1, 2, 3, 4, 5
      on conflict do nothing
      returning user_id, service, method_group, date, point_key
    ),
    counted as (
      select user_id, service, method_group, date, company_key, count(*) as points
      from added join given using (user_id, service, method_group, date, point_key) group by 1, 2, 3, 4, 5
    )
    update usage_day set unique_points = unique_points + counted.points from counted
    where usage_day.user_id = counted.user_id and usage_day.service = counted.service
      and usage_day.method_group = counted.method_group and usage_day.date = counted.date
      and usage_day.company_key = counted.company_key`,
});
