import { columnOf, textColumnOf } from "../postgres/columns.ts";
import type { Database, Transaction } from "../postgres/database.ts";
import { ensurePartitions } from "../postgres/partitions.ts";
import { defineStatements, queryRows } from "../postgres/statements.ts";
import type { UniquePoints, UsageWriter } from "../shared/records.ts";

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
async function countUniquePoints(transaction: Transaction, usages: readonly Counted[]): Promise<UniquePoints[]> {
  const points = usages.flatMap((usage) => usage.pointKeys.map((key) => ({ usage, key })));
  const counts: UniquePoints[] = [];
  for (let start = 0; start < points.length; start += maxPoints) {
    counts.push(...(await countPoints(transaction, points.slice(start, start + maxPoints))));
  }
  return counts;
}

async function countPoints(transaction: Transaction, points: readonly PointOfUsage[]): Promise<UniquePoints[]> {
  return queryRows<UniquePoints>(transaction, sql.countPoints, [
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
    textColumnOf(usages, ({ username }) => username),
    textColumnOf(usages, ({ companyKey }) => companyKey),
  ];
}

/**
 * Parts of a statement that store the points of `seen (place, user_id, service, method_group, day, username, company_key,
 * point_keys)`. A point counts once on a day, for the company in which it occurs first: `counted_point` has the numbers.
 */
export const countPointsParts = `
    given_point as (
      select distinct on (user_id, service, method_group, day, point_key)
        user_id, service, method_group, day, point_key, username, company_key
      from seen cross join unnest(point_keys) as point_key
      order by user_id, service, method_group, day, point_key, place
    ),
    new_point as (
      insert into usage_point (user_id, service, method_group, date, point_key)
      -- In key order: two writers must not deadlock.
      select user_id, service, method_group, day, point_key from given_point order by 1, 2, 3, 4, 5
      on conflict do nothing
      returning user_id, service, method_group, date as day, point_key, true as is_new
    ),
    counted_point as (
      -- A full join is never a nested loop, whatever the estimates are.
      select user_id, service, method_group, day, min(username) as username, company_key, count(is_new) as unique_points
      from given_point full join new_point using (user_id, service, method_group, day, point_key)
      group by 1, 2, 3, 4, 6
      having count(is_new) > 0
    )`;

const sql = defineStatements("usage-writer", {
  countPoints: `
    with seen as (
      select place, user_id, service, method_group, date '1970-01-01' + day as day, username, company_key,
        array[point_key] as point_keys
      from unnest($1::bigint[], $2::smallint[], $3::smallint[], $4::integer[], $5::text[], $6::text[], $7::bigint[])
        with ordinality as usage (user_id, service, method_group, day, username, company_key, point_key, place)
    ),${countPointsParts}
    select user_id as "userId", service, method_group as "methodGroup", day::text, username, company_key as "companyKey",
      unique_points as "uniquePoints"
    from counted_point`,
});
