import { addPendingParts, logActionsPart } from "../../audit/writer.ts";
import { defineStatements, keepPlan } from "../../postgres/statements.ts";
import { countPointsParts } from "../../usage/writer.ts";
import { lateAfterDays } from "./read.ts";

/**
 * Conditions of a put. In fail-open, two servers may each grant one operation. A release at one of them ends each grant
 * that was made before it, whichever the ledger gets first.
 */
const isEndedBefore =
  "((kept.degraded or excluded.degraded) and kept.state = 1 and excluded.granted_at < kept.ended_at)";
const endsLater =
  "((kept.degraded or excluded.degraded) and excluded.state = 1 and kept.granted_at < excluded.ended_at)";
/** The entry is of a later grant than the row, which is not settled. */
const isLater = `(kept.state < 2 and excluded.granted_at > kept.granted_at and not ${isEndedBefore})`;
/** A later grant replaces the values of an earlier one. */
const ofLater = (column: string) => `${column} = case when ${isLater} then excluded.${column} else kept.${column} end`;
/** The holder of a later grant replaces that of an earlier one if the entry knows it. Rare, so it is looked up. */
const ofLaterHolder = (column: string) => `${column} = case when not ${isLater} then kept.${column}
        when (select is_holder_known from entry where (user_id, service, method_group, day, operation_id)
          = (excluded.user_id, excluded.service, excluded.method_group, excluded.day, excluded.operation_id))
        then excluded.${column} else kept.${column} end`;

/** Makes rows of leases from the parameters $1 to $17. `ends` are the columns of settled leases, with their types. */
const entryParts = (ends: { readonly parameters: string; readonly names: string; readonly columns: string }) => `
    entry as materialized (
      select n::integer as n, user_id, service, method_group, date '1970-01-01' + day as day, operation_id, username,
        company_key, timezone, points, to_timestamp(granted) as granted_at, to_timestamp(expire) as expire_at, state,
        to_timestamp(ended) as ended_at, tracecode, holder, degraded, is_holder_known,
        ${ends.columns}
      from unnest(
        $1::bigint[], $2::smallint[], $3::smallint[], $4::integer[], $5::uuid[], $6::text[], $7::text[], $8::smallint[],
        $9::bigint[], $10::float8[], $11::float8[], $12::smallint[], $13::float8[], $14::uuid[], $15::text[], $16::boolean[],
        $17::boolean[]${ends.parameters}
      ) with ordinality as entry (
        user_id, service, method_group, day, operation_id, username, company_key, timezone, points, granted, expire,
        state, ended, tracecode, holder, degraded, is_holder_known${ends.names}, n
      ),
      -- The trigger that adds up days for servers of the last release leaves this to us.
      set_config('tollgate.adds_charged_days', 'on', true)
    )`;

const putParts = `
    put as (
      insert into lease as kept (
        user_id, service, method_group, day, operation_id, username, company_key, timezone, points, granted_at,
        expire_at, state, ended_at, tracecode, holder, degraded, settled_points, duration_ms, outcome
      )
      select user_id, service, method_group, day, operation_id, username, company_key, timezone, points, granted_at,
        expire_at, state, ended_at, tracecode, holder, degraded, settled_points, duration_ms, outcome
      from entry
      on conflict (user_id, service, method_group, day, operation_id) do update set
        ${["timezone", "points", "granted_at"].map(ofLater).join(", ")},
        ${["username", "company_key", "tracecode", "holder"].map(ofLaterHolder).join(", ")},
        expire_at = case when ${isLater} then excluded.expire_at
          when excluded.granted_at = kept.granted_at then greatest(kept.expire_at, excluded.expire_at)
          else kept.expire_at end,
        state = case when ${isLater} then excluded.state
          when excluded.granted_at = kept.granted_at or excluded.state = 2 or ${endsLater} then greatest(kept.state, excluded.state)
          else kept.state end,
        ended_at = case when ${isLater} or (excluded.state = 2 and kept.state < 2) then excluded.ended_at
          else coalesce(kept.ended_at, excluded.ended_at) end,
        degraded = kept.degraded or excluded.degraded,
        settled_points = coalesce(kept.settled_points, excluded.settled_points),
        duration_ms = coalesce(kept.duration_ms, excluded.duration_ms),
        outcome = coalesce(kept.outcome, excluded.outcome)
      where (excluded.state < 2 and excluded.degraded and not kept.degraded)
        or (kept.state < 2 and (
          excluded.state = 2 or ${isLater} or (${endsLater} and kept.state = 0) or (
            excluded.granted_at = kept.granted_at
            and (excluded.state > kept.state or excluded.expire_at > kept.expire_at)
          )
        ))
      returning user_id, service, method_group, day, operation_id, username, company_key, tracecode, holder
    ),
    late as (
      insert into late_day as kept (user_id, service, method_group, day, until)
      select user_id, service, method_group, day, max(greatest(expire_at, ended_at))
      from entry where greatest(expire_at, ended_at) > (day + ${lateAfterDays})::timestamp at time zone 'UTC'
      group by 1, 2, 3, 4
      order by 1, 2, 3, 4
      on conflict (user_id, service, method_group, day) do update set until = greatest(kept.until, excluded.until)
    )`;

/** Parts that read rows of `put` beside those of `entry`. A full join is never a nested loop, whatever the estimates are. */
const besidePut = "from entry full join put using (user_id, service, method_group, day, operation_id)";

/** The statements that write leases. Each is one round trip, and a transaction of its own unless it runs in one. */
export const ledgerStatements = defineStatements("ledger-write", {
  putLeases: keepPlan(`
    with ${entryParts({
      parameters: "",
      names: "",
      columns: "null::bigint as settled_points, null::bigint as duration_ms, null::smallint as outcome",
    }).trim()},${putParts}
    select n ${besidePut} where put.username is null`),
  // Sums that alerts need are rows of their own: the planner takes each part for a few rows, and would join them in nested
  // loops.
  settleLeases: keepPlan(`
    with ${entryParts({
      parameters: ", $18::bigint[], $19::bigint[], $20::smallint[], $21::text[], $22::text[], $23::text[]",
      names: ", settled_points, duration_ms, outcome, operation, server, point_keys",
      columns: "settled_points, duration_ms, outcome, operation, server, point_keys::bigint[] as point_keys",
    }).trim()},${putParts},
    changed as materialized (
      select n, user_id, service, method_group, day, operation_id, entry.timezone, entry.state, entry.ended_at,
        entry.settled_points, entry.duration_ms, entry.outcome, entry.operation, entry.server, entry.point_keys,
        put.username, put.company_key, put.tracecode, put.holder, put.username is not null as is_changed
      ${besidePut}
    ),
    settled as materialized (
      select * from changed where is_changed and state = 2
    ),
    added as (
      insert into charged_day as kept (user_id, service, method_group, day, timezone, points)
      select user_id, service, method_group, day, min(timezone), sum(settled_points)
      from settled group by 1, 2, 3, 4
      -- In key order: two writers must not deadlock.
      order by 1, 2, 3, 4
      on conflict (user_id, service, method_group, day) do update set
        points = kept.points + excluded.points, timezone = least(kept.timezone, excluded.timezone)
      returning user_id, service, method_group, day, points
    ),
    seen as (
      select n as place, user_id, service, method_group, day, username, company_key, point_keys from settled
      -- Points come after the charged days in every statement: two writers must not deadlock.
      where (select count(*) from added) is not null
    ),${countPointsParts},
    usage as (
      select user_id, service, method_group, day, username, company_key, 1 as requests, settled_points as points,
        0 as unique_points
      from settled
      union all
      select user_id, service, method_group, day, username, company_key, 0, 0, unique_points from counted_point
    ),
    action as not materialized (
      select ended_at as time, tracecode, operation,
        -- Distinguishes the actions of leases with equal time, tracecode and operation.
        md5(concat_ws(' ', user_id, service, method_group, day - date '1970-01-01', operation_id))::uuid as part,
        user_id, username, company_key, coalesce(server, holder) as server, service, method_group,
        settled_points as points, duration_ms, outcome, null::text as resource, null::date as usage_day,
        null::text as visible_company, null::text as address, null::integer as times
      from settled
    ),${logActionsPart},${addPendingParts("$31::boolean")}
    select n, username, company_key as "companyKey", tracecode, null as "dayKey", null::bigint as "dayPoints",
      null::bigint as "otherDayPoints"
    from changed where not is_changed or (state = 2 and $24)
    union all
    select null, null, null, null, concat_ws(' ', user_id, service, method_group, day - date '1970-01-01'), points, null
    from added where cardinality($25::bigint[]) > 0
    union all
    select null, null, null, null, concat_ws(' ', user_id, service, method_group, day), null, (
        select coalesce(sum(other.points), 0)::bigint from charged_day as other
        where other.user_id = charge.user_id and other.service = charge.service
          and other.method_group = charge.method_group and other.day >= date '1970-01-01' + window_from
          and other.day < date '1970-01-01' + window_to and other.day <> date '1970-01-01' + charge.day
      )
    from unnest($25::bigint[], $26::smallint[], $27::smallint[], $28::integer[], $29::integer[], $30::integer[])
      as charge (user_id, service, method_group, day, window_from, window_to)`),
  findSettlements: `
    select n::integer, settled_points as points, (extract(epoch from granted_at) * 1000)::float8 as "grantedMs"
    from lease join unnest($1::bigint[], $2::smallint[], $3::smallint[], $4::integer[], $5::uuid[]) with ordinality
      as entry (user_id, service, method_group, of_day, operation_id, n)
      using (user_id, service, method_group, operation_id)
    -- The days once more: they name the partitions.
    where day = date '1970-01-01' + of_day and state = 2 and day = any($6::date[])`,
});
