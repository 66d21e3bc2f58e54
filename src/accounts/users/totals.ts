import type { Database } from "../../postgres/database.ts";
import { defineStatements, keepPlan, queryRows } from "../../postgres/statements.ts";
import type { Page } from "../../shared/pagination.ts";
import { filterUsers, type ListedUser, listedColumns, type UserFilter } from "./store.ts";

/** Numbers of users by group. */
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

/** Counts the users of a selection. Without a text filter it reads stored counters and does not scan users. */
export async function createUserTotals(database: Database, selection: UserFilter): Promise<UserTotals> {
  if (selection.filter === undefined) return ofGroup(await readStoredCounts(database, selection), selection.group);
  const query = filterUsers(database, selection).first<Counts>(
    database.raw(`
      count(*)::int as total,
      count(*) filter (where enabled)::int as active,
      count(*) filter (where 'ADMIN' = any (roles))::int as admins,
      count(*) filter (where enabled and 'ADMIN' = any (roles))::int as active_admins`),
  );
  return ofGroup(await query, "TOTAL");
}

/** Users of all companies by username, and the totals of all. */
export interface FirstUsers {
  readonly users: readonly ListedUser[];
  readonly totals: UserTotals;
}

/** Reads a page of all users with the totals in one round trip: the list that consoles show first. */
export async function readFirstUsers(
  database: Database,
  { offset, limit }: Pick<Page, "offset" | "limit">,
): Promise<FirstUsers> {
  const rows = await queryRows<Counts & ListedUser>(database, sql.readFirstUsers, [offset, limit]);
  // A page without users is one row that has the totals alone.
  const users = rows.filter(({ username }) => username !== null);
  return { users, totals: ofGroup(rows[0] ?? none, "TOTAL") };
}

/** Reads the counters that triggers maintain by company (migration 0001). */
async function readStoredCounts(database: Database, { scope, companyKey }: UserFilter): Promise<Counts> {
  if (scope.kind === "self") return none;
  const company = scope.kind === "company" ? scope.companyKey : companyKey;
  if (companyKey !== undefined && companyKey !== company) return none;
  const [counts] =
    company === undefined
      ? await queryRows<Counts>(database, sql.countAll)
      : await queryRows<Counts>(database, sql.countOfCompany, [company]);
  return counts ?? none;
}

const none: Counts = { total: 0, active: 0, admins: 0, active_admins: 0 };

const sums = `
  select coalesce(sum(total), 0)::int as total,
    coalesce(sum(active), 0)::int as active,
    coalesce(sum(admins), 0)::int as admins,
    coalesce(sum(active_admins), 0)::int as active_admins
  from user_total`;

const sql = defineStatements("user-totals", {
  countAll: keepPlan(sums),
  countOfCompany: keepPlan(`${sums} where company_key = $1`),
  // Only the first row has the totals. The page is read by the index of usernames.
  readFirstUsers: keepPlan(`
    select ${listedColumns.join(", ")}, total, active, admins, active_admins
    from (select 1 as place, counted.* from (${sums}) as counted) as counts
    full join (
      select row_number() over (order by username) as place, listed.*
      from (
        select ${listedColumns.join(", ")} from user_account order by username offset $1 limit $2
      ) as listed
    ) as page using (place)
    order by place`),
});

/** Derives the totals of one group from the counts of all users. */
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
