import { columnOf, textColumnOf } from "../postgres/columns.ts";
import type { Database, Transaction } from "../postgres/database.ts";
import { ensurePartitions } from "../postgres/partitions.ts";
import { defineStatements, executeStatement, keepPlan } from "../postgres/statements.ts";
import type { Usage, UsageWriter } from "../shared/records.ts";

interface PointOfUsage {
  readonly usage: Usage;
  readonly key: bigint;
}

/** Maximum points per statement: a record may hold more than a statement can write in time. */
const maxPoints = 20_000;

/** Adds usage to the sums by user, day, service, method group and company, in the transaction of its cause. */
export function createUsageWriter(database: Database): UsageWriter {
  return {
    async prepare(usages) {
      const withPoints = usages.filter(({ pointKeys }) => pointKeys.length > 0);
      await ensurePartitions(database, "usage_point", new Set(withPoints.map(({ day }) => day)));
    },
    async write(transaction, usages) {
      if (usages.length === 0) return;
      await addUp(transaction, usages);
      const withPoints = usages.filter(({ pointKeys }) => pointKeys.length > 0);
      if (withPoints.length > 0) await countUniquePoints(transaction, withPoints);
    },
  };
}

async function addUp(transaction: Transaction, usages: readonly Usage[]): Promise<void> {
  await executeStatement(transaction, sql.addUsage, [
    ...keyColumns(usages),
    textColumnOf(usages, ({ username }) => username),
    columnOf(usages, ({ points }) => points),
  ]);
}

/** Counts the points that are new on the user's day, for the company in which they occur first. */
async function countUniquePoints(transaction: Transaction, usages: readonly Usage[]): Promise<void> {
  const points = usages.flatMap((usage) => usage.pointKeys.map((key) => ({ usage, key })));
  // The row lock on usage_day serializes writers of a day. A user who changed company has two rows on that day: two writers
  // may then deadlock, and one of them is retried.
  for (let start = 0; start < points.length; start += maxPoints) {
    await countPoints(transaction, points.slice(start, start + maxPoints));
  }
}

async function countPoints(transaction: Transaction, points: readonly PointOfUsage[]): Promise<void> {
  await executeStatement(transaction, sql.countPoints, [
    ...keyColumns(points.map(({ usage }) => usage)),
    // bigint is signed in PostgreSQL.
    columnOf(points, ({ key }) => BigInt.asIntN(64, key)),
  ]);
}

/** Returns the columns of the key, for unnest. */
function keyColumns(usages: readonly Usage[]): string[] {
  return [
    columnOf(usages, ({ userId }) => userId),
    columnOf(usages, ({ service }) => service),
    columnOf(usages, ({ methodGroup }) => methodGroup),
    columnOf(usages, ({ day }) => day),
    textColumnOf(usages, ({ companyKey }) => companyKey),
  ];
}

const sql = defineStatements("usage-writer", {
  addUsage: keepPlan(`
    insert into usage_day as kept (
      date, user_id, service, method_group, username, company_key, requests, points, unique_points
    )
    select date '1970-01-01' + day, user_id, service, method_group, min(username), company_key, count(*), sum(points), 0
    from unnest($1::bigint[], $2::smallint[], $3::smallint[], $4::integer[], $5::text[], $6::text[], $7::bigint[])
      as usage (user_id, service, method_group, day, company_key, username, points)
    group by day, user_id, service, method_group, company_key
    -- In key order: two writers must not deadlock.
    order by user_id, service, method_group, day, company_key
    on conflict (user_id, date, service, method_group, company_key) do update set
      requests = kept.requests + excluded.requests, points = kept.points + excluded.points`),
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
