import { type Database, queryOf, readRows } from "../../postgres/database.ts";
import { filterUsers, type UserFilter } from "./store.ts";

/** How many users there are of each group. */
export interface UserTotals {
  readonly total: number;
  readonly active: number;
  readonly blocked: number;
  readonly admins: number;
}

interface Counts {
  total: number;
  active: number;
  admins: number;
  active_admins: number;
}

/** The totals of a selection. Without a filter they come from kept counters, whatever the number of users. */
export async function createUserTotals(database: Database, selection: UserFilter): Promise<UserTotals> {
  if (selection.filter === undefined) return ofGroup(await keptCounts(database, selection), selection.group);
  const query = filterUsers(database, selection).first<Counts>(
    database.raw(`
      count(*)::int as total,
      count(*) filter (where enabled)::int as active,
      count(*) filter (where 'ADMIN' = any (roles))::int as admins,
      count(*) filter (where enabled and 'ADMIN' = any (roles))::int as active_admins`),
  );
  return ofGroup(await query, "TOTAL");
}

/** The counters that triggers keep by company (migration 0001). */
async function keptCounts(database: Database, { scope, companyKey }: UserFilter): Promise<Counts> {
  const query = database("user_total").select(
    database.raw(`
      coalesce(sum(total), 0)::int as total,
      coalesce(sum(active), 0)::int as active,
      coalesce(sum(admins), 0)::int as admins,
      coalesce(sum(active_admins), 0)::int as active_admins`),
  );
  if (scope.kind === "company") void query.where({ company_key: scope.companyKey });
  if (scope.kind === "self") void query.whereRaw("false");
  if (companyKey !== undefined) void query.where({ company_key: companyKey });
  const [counts] = await readRows<Counts>(database, queryOf(query));
  return counts as Counts;
}

/** The totals within one group, out of the totals of all. */
function ofGroup({ total, active, admins, active_admins }: Counts, group: UserFilter["group"]): UserTotals {
  switch (group) {
    case "TOTAL":
      return { total, active, blocked: total - active, admins };
    case "ACTIVE":
      return { total: active, active, blocked: 0, admins: active_admins };
    case "BLOCKED":
      return { total: total - active, active: 0, blocked: total - active, admins: admins - active_admins };
    case "ADMINS":
      return { total: admins, active: active_admins, blocked: admins - active_admins, admins };
  }
}
