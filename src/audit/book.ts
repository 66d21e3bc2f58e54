import type { Action, ActionBook } from "../core/history.ts";
import { type Database, prepared, type Transaction } from "../storage/database.ts";
import { ensurePartitions } from "../storage/partitions.ts";
import type { Tally } from "./tally.ts";

const dayMicros = 86_400_000_000;
const noPart = "00000000-0000-0000-0000-000000000000";

/** Writes actions in the transaction of what they are about, and what they add to the totals. */
export function createActionBook(database: Database, tally: Tally): ActionBook {
  return {
    async prepare(actions) {
      const days = actions.map(({ timeMicros }) => Math.floor(timeMicros / dayMicros));
      await ensurePartitions(database, "audit_action", new Set(days));
    },
    async write(transaction, actions) {
      if (actions.length === 0) return [];
      // What is twice in one batch is what it is first.
      const byKey = new Map(actions.toReversed().map((action) => [keyOf(action), action]));
      const added = await insert(transaction, [...byKey.values()]);
      tally.soon();
      return added === "all" ? [...byKey.values()] : added.flatMap((key) => byKey.get(key) ?? []);
    },
  };
}

function keyOf({ timeMicros, tracecode, operation, part = noPart }: Action): string {
  return `${timeMicros} ${tracecode} ${part} ${operation}`;
}

/** Returns the keys of those that were not there; most times that is all of them, and none needs to be told. */
async function insert(transaction: Transaction, actions: readonly Action[]): Promise<string[] | "all"> {
  const inserting = transaction.raw<{ rows: { total: number; keys: string[] | null }[] }>(
    `with added as (
       insert into audit_action (
         time, tracecode, operation, part, user_id, username, company_key, server, service, method_group, points,
         duration_ms, outcome, resource, usage_day
       )
       select timestamptz 'epoch' + micros * interval '1 microsecond', tracecode, operation, part, user_id, username,
         company_key, server, service, method_group, points, duration_ms, outcome, resource,
         date '1970-01-01' + usage_day
       from unnest(
         ?::bigint[], ?::uuid[], ?::text[], ?::uuid[], ?::bigint[], ?::text[], ?::text[], ?::text[], ?::smallint[],
         ?::smallint[], ?::bigint[], ?::bigint[], ?::smallint[], ?::text[], ?::integer[]
       ) as action (
         micros, tracecode, operation, part, user_id, username, company_key, server, service, method_group, points,
         duration_ms, outcome, resource, usage_day
       )
       -- In key order: two writers must not deadlock.
       order by micros, tracecode, operation, part
       on conflict do nothing
       returning time, tracecode, operation, part, user_id, username, company_key, service, method_group
     ),
     counted as (
       insert into audit_pending (
         starts, user_ids, usernames, company_keys, services, method_groups, operations, totals
       )
       select array_agg(start), array_agg(user_id), array_agg(username), array_agg(company_key), array_agg(service),
         array_agg(method_group), array_agg(operation), array_agg(total)
       from (
         select date_trunc('hour', time, 'UTC') as start, user_id, username, company_key, service, method_group,
           operation, count(*) as total
         from added group by 1, 2, 3, 4, 5, 6, 7
       ) as cell
       having count(*) > 0
     )
     select (select count(*) from added) as total, (
       select array_agg(concat_ws(' ', (extract(epoch from time) * 1000000)::bigint, tracecode, part, operation))
       from added where (select count(*) from added) < ?
     ) as keys`,
    [
      actions.map(({ timeMicros }) => timeMicros),
      actions.map(({ tracecode }) => tracecode),
      actions.map(({ operation }) => operation),
      actions.map(({ part = noPart }) => part),
      actions.map(({ userId }) => userId),
      actions.map(({ username }) => username),
      actions.map(({ companyKey }) => companyKey),
      actions.map(({ server }) => server),
      actions.map(({ service }) => service),
      actions.map(({ methodGroup }) => methodGroup),
      actions.map(({ points }) => points ?? null),
      actions.map(({ durationMs }) => durationMs ?? null),
      actions.map(({ outcome }) => outcome),
      actions.map(({ resource }) => resource ?? null),
      actions.map(({ usageDay }) => usageDay ?? null),
      actions.length,
    ] as never,
  );
  const { rows } = await inserting.options(prepared("add_actions"));
  const [{ total, keys } = { total: 0, keys: null }] = rows;
  return total === actions.length ? "all" : (keys ?? []);
}
