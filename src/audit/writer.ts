import { columnOf, textColumnOf } from "../postgres/columns.ts";
import type { Database, Transaction } from "../postgres/database.ts";
import { ensurePartitions } from "../postgres/partitions.ts";
import { defineStatements, executeStatement, keepPlan, queryRows } from "../postgres/statements.ts";
import { dayMicros, hourMicros, hourMs, toIsoTime } from "../shared/calendar.ts";
import type { Action, ActionWriter, UniquePoints } from "../shared/records.ts";
import type { RollUp } from "./roll-up.ts";
import { insertUnsentActions, insertUnsentPart } from "./sink-outbox.ts";

/** The part of actions that need none. */
export const noPart = "00000000-0000-0000-0000-000000000000";

/**
 * Writes actions, and their counts for the totals, in the transaction of the change that they describe.
 * @param hasSink whether the new actions are sent to the audit sink
 */
export function createActionWriter(database: Database, rollUp: RollUp, hasSink = false): ActionWriter {
  return {
    hasSink,
    async prepare(actions) {
      const days = actions.map(({ timeMicros }) => Math.floor(timeMicros / dayMicros));
      await ensurePartitions(database, "audit_action", new Set(days));
    },
    async write(transaction, actions) {
      if (actions.length === 0) return [];
      // Within a batch, the first duplicate wins.
      const byKey = new Map(actions.toReversed().map((action) => [keyOf(action), action]));
      const distinct = [...byKey.values()];
      const inserted = await insert(transaction, distinct);
      if (inserted === 0) return [];
      const added =
        inserted === distinct.length
          ? distinct
          : (await readInserted(transaction, distinct)).flatMap((key) => byKey.get(key) ?? []);
      await count(transaction, added);
      if (hasSink) {
        const inOrder = added.toSorted((left, right) => left.timeMicros - right.timeMicros);
        await insertUnsentActions(transaction, keyColumns(inOrder));
      }
      rollUp.scheduleRollUp();
      return added;
    },
    async findContradicted(on, actions) {
      if (actions.length === 0) return [];
      const kept = new Map((await readKept(on, actions)).map(({ key, facts }) => [key, facts]));
      return actions.filter((action) => {
        const facts = kept.get(keyOf(action));
        // Absent: retention has dropped the action since.
        return facts !== undefined && facts !== factsOf(action);
      });
    },
    addUniquePoints: insertUniquePoints,
    scheduleRollUp: () => rollUp.scheduleRollUp(),
  };
}

/** Returns the fields in which a repeated action must equal the logged one. */
function factsOf({ userId, service, methodGroup, points }: Action): string {
  return [userId, service, methodGroup, points ?? ""].join(" ");
}

function keyOf({ timeMicros, tracecode, operation, part = noPart }: Action): string {
  return `${timeMicros} ${tracecode} ${part} ${operation}`;
}

/** Inserts actions and returns the number of new ones. Usually all are new, so their keys need not be returned. */
async function insert(transaction: Transaction, actions: readonly Action[]): Promise<number> {
  return executeStatement(transaction, sql.insertActions, [
    ...keyColumns(actions),
    columnOf(actions, ({ userId }) => userId),
    textColumnOf(actions, ({ username }) => username),
    textColumnOf(actions, ({ companyKey }) => companyKey),
    textColumnOf(actions, ({ server }) => server),
    columnOf(actions, ({ service }) => service),
    columnOf(actions, ({ methodGroup }) => methodGroup),
    columnOf(actions, ({ points }) => points),
    columnOf(actions, ({ durationMs }) => durationMs),
    columnOf(actions, ({ outcome }) => outcome),
    textColumnOf(actions, ({ resource }) => resource),
    columnOf(actions, ({ usageDay }) => usageDay),
    textColumnOf(actions, visibleCompanyOf),
    textColumnOf(actions, ({ address }) => address),
    columnOf(actions, ({ times }) => times),
  ]);
}

/** Returns the keys of actions that this transaction has inserted. */
async function readInserted(transaction: Transaction, actions: readonly Action[]): Promise<string[]> {
  const times = actions.map(({ timeMicros }) => timeMicros);
  const rows = await queryRows<{ key: string }>(transaction, sql.readInserted, [
    ...keyColumns(actions),
    toIsoTime(Math.min(...times)),
    toIsoTime(Math.max(...times)),
  ]);
  return rows.map(({ key }) => key);
}

/** Returns keys and facts of the actions that the log already has. */
async function readKept(on: Database | Transaction, actions: readonly Action[]) {
  const times = actions.map(({ timeMicros }) => timeMicros);
  return queryRows<{ key: string; facts: string }>(on, sql.readLogged, [
    ...keyColumns(actions),
    toIsoTime(Math.min(...times)),
    toIsoTime(Math.max(...times)),
  ]);
}

/** Returns the columns of the primary key, for unnest. */
function keyColumns(actions: readonly Action[]): string[] {
  return [
    columnOf(actions, ({ timeMicros }) => timeMicros),
    columnOf(actions, ({ tracecode }) => tracecode),
    textColumnOf(actions, ({ operation }) => operation),
    columnOf(actions, ({ part = noPart }) => part),
  ];
}

/** Writes the counts of the actions by hour. The roll-up moves them into the totals. */
async function count(transaction: Transaction, actions: readonly Action[]): Promise<void> {
  const cells = [...cellsOf(actions).values()];
  await executeStatement(transaction, sql.insertPendingCounts, [
    columnOf(cells, ({ action }) => new Date(hourOf(action) * hourMs).toISOString()),
    columnOf(cells, ({ action }) => action.userId),
    textColumnOf(cells, ({ action }) => action.username),
    textColumnOf(cells, ({ action }) => action.companyKey),
    columnOf(cells, ({ action }) => action.service),
    columnOf(cells, ({ action }) => action.methodGroup),
    textColumnOf(cells, ({ action }) => action.operation),
    columnOf(cells, ({ total }) => total),
    textColumnOf(cells, ({ action }) => visibleCompanyOf(action)),
  ]);
}

/** Writes unique points as pending usage. The roll-up adds them to the statistics. */
async function insertUniquePoints(transaction: Transaction, counts: readonly UniquePoints[]): Promise<void> {
  if (counts.length === 0) return;
  await executeStatement(transaction, sql.insertPendingPoints, [
    columnOf(counts, ({ userId }) => userId),
    textColumnOf(counts, ({ username }) => username),
    textColumnOf(counts, ({ companyKey }) => companyKey),
    columnOf(counts, ({ service }) => service),
    columnOf(counts, ({ methodGroup }) => methodGroup),
    columnOf(counts, ({ day }) => day),
    columnOf(counts, ({ uniquePoints }) => uniquePoints),
  ]);
}

function cellsOf(actions: readonly Action[]): Map<string, { readonly action: Action; total: number }> {
  const cells = new Map<string, { readonly action: Action; total: number }>();
  for (const action of actions) {
    const { userId, username, companyKey, visibleCompany, service, methodGroup, operation } = action;
    const user = `${userId} ${username} ${companyKey} ${visibleCompany}`;
    const key = `${hourOf(action)} ${user} ${service} ${methodGroup} ${operation}`;
    const cell = cells.get(key);
    if (cell === undefined) cells.set(key, { action, total: 1 });
    else cell.total += 1;
  }
  return cells;
}

/** Null: the company of the user. */
function visibleCompanyOf({ visibleCompany, companyKey }: Action): string | null {
  return visibleCompany === undefined || visibleCompany === companyKey ? null : visibleCompany;
}

/** In hours since the epoch. */
function hourOf({ timeMicros }: Action): number {
  return Math.floor(timeMicros / hourMicros);
}

/** Part of a statement that inserts the rows of `action`, whose columns are those of the log. The new ones are `logged`. */
export const logActionsPart = `
    logged as (
      insert into audit_action (
        time, tracecode, operation, part, user_id, username, company_key, server, service, method_group, points,
        duration_ms, outcome, resource, usage_day, visible_company, address, times
      )
      select time, tracecode, operation, part, user_id, username, company_key, server, service, method_group, points,
        duration_ms, outcome, resource, usage_day, visible_company, address, times
      from action
      -- In key order: two writers must not deadlock.
      order by time, tracecode, operation, part
      on conflict do nothing
      returning time, tracecode, part, user_id, username, company_key, service, method_group, operation,
        visible_company, points, usage_day
    )`;

/**
 * Parts of a statement that write what `logged` adds to the totals: its actions by hour, and the usage of those with a
 * `usage_day`. They also write the usage of `usage (user_id, service, method_group, day, username, company_key, requests,
 * points, unique_points)`, and send `logged` to the audit sink.
 * @param hasSink a condition: whether the new actions are sent to the audit sink
 */
export const addPendingParts = (hasSink: string) => `
    pending as (
      insert into audit_pending (
        starts, user_ids, usernames, company_keys, services, method_groups, operations, totals, visible_companies,
        usage_days, requests, points, unique_points
      )
      select array_agg(start), array_agg(user_id), array_agg(username), array_agg(company_key), array_agg(service),
        array_agg(method_group), array_agg(operation), array_agg(total), array_agg(visible_company),
        array_agg(usage_day), array_agg(requests), array_agg(points), array_agg(unique_points)
      from (
        select date_trunc('hour', time, 'UTC') as start, user_id, username, company_key, service, method_group,
          operation, visible_company, usage_day, count(*) as total, count(usage_day) as requests,
          coalesce(sum(points) filter (where usage_day is not null), 0)::bigint as points, 0 as unique_points
        from logged group by 1, 2, 3, 4, 5, 6, 7, 8, 9
        union all
        -- Usage without an action. The hour is not used, but servers of the last release expect one.
        select date_trunc('hour', now(), 'UTC'), user_id, username, company_key, service, method_group, '', null, day, 0,
          requests, points, unique_points
        from usage
      ) as cell
      having count(*) > 0
    ),${insertUnsentPart(hasSink)}`;

const sql = defineStatements("audit-writer", {
  insertActions: keepPlan(`
    insert into audit_action (
      time, tracecode, operation, part, user_id, username, company_key, server, service, method_group, points,
      duration_ms, outcome, resource, usage_day, visible_company, address, times
    )
    select timestamptz 'epoch' + micros * interval '1 microsecond', tracecode, operation, part, user_id, username,
      company_key, server, service, method_group, points, duration_ms, outcome, resource,
      date '1970-01-01' + usage_day, visible_company, address, times
    from unnest(
      $1::bigint[], $2::uuid[], $3::text[], $4::uuid[], $5::bigint[], $6::text[], $7::text[], $8::text[], $9::smallint[],
      $10::smallint[], $11::bigint[], $12::bigint[], $13::smallint[], $14::text[], $15::integer[],
      $16::text[], $17::text[], $18::integer[]
    ) as action (
      micros, tracecode, operation, part, user_id, username, company_key, server, service, method_group, points,
      duration_ms, outcome, resource, usage_day, visible_company, address, times
    )
    -- In key order: two writers must not deadlock.
    order by micros, tracecode, operation, part
    on conflict do nothing`),
  readInserted: `
    select concat_ws(' ', micros, tracecode, part, operation) as key
    from unnest($1::bigint[], $2::uuid[], $3::text[], $4::uuid[]) as action (micros, tracecode, operation, part)
    join audit_action using (tracecode, operation, part)
    where time = timestamptz 'epoch' + micros * interval '1 microsecond'
      -- Text parameters let the planner exclude partitions, which are then neither read nor locked.
      and time >= $5 and time <= $6
      and audit_action.xmin = pg_current_xact_id()::xid`,
  readLogged: `
    select concat_ws(' ', micros, tracecode, part, operation) as key,
      concat_ws(' ', user_id, service, method_group, coalesce(points::text, '')) as facts
    from unnest($1::bigint[], $2::uuid[], $3::text[], $4::uuid[]) as action (micros, tracecode, operation, part)
    join audit_action using (tracecode, operation, part)
    where time = timestamptz 'epoch' + micros * interval '1 microsecond'
      -- Text parameters let the planner exclude partitions.
      and time >= $5 and time <= $6`,
  insertPendingCounts: keepPlan(`
    insert into audit_pending (
      starts, user_ids, usernames, company_keys, services, method_groups, operations, totals, visible_companies
    )
    values (
      $1::timestamptz[], $2::bigint[], $3::text[], $4::text[], $5::smallint[], $6::smallint[], $7::text[], $8::bigint[],
      $9::text[]
    )`),
  insertPendingPoints: `
    insert into audit_pending (
      starts, user_ids, usernames, company_keys, services, method_groups, operations, totals, usage_days, requests,
      points, unique_points
    )
    select array_agg(date_trunc('hour', now(), 'UTC')), array_agg(user_id), array_agg(username), array_agg(company_key),
      array_agg(service), array_agg(method_group), array_agg(''::text), array_agg(0::bigint), array_agg(day),
      array_agg(0::bigint), array_agg(0::bigint), array_agg(unique_points)
    from unnest($1::bigint[], $2::text[], $3::text[], $4::smallint[], $5::smallint[], $6::date[], $7::bigint[])
      as counted (user_id, username, company_key, service, method_group, day, unique_points)`,
});
