import type { Knex } from "knex";
import type { Database } from "../postgres/database.ts";
import { toIsoTime } from "../shared/calendar.ts";
import type { ActionFilter } from "./selection.ts";

/** The selection's actions, as a query that others refine. */
export function filterActions(database: Database, selection: ActionFilter): Knex.QueryBuilder {
  const { from, to, user, company, visibleTo, method, outcome } = selection;
  const query = database
    .from(visibleTo === undefined ? "audit_action" : visibleActions(database, visibleTo))
    // As texts: the planner then knows the partitions.
    .whereRaw("time >= ? and time < ?", [toIsoTime(from), toIsoTime(to)])
    .where({ ...user, ...method });
  // Written out: the index of these actions has the same condition.
  if (outcome === "not success") void query.whereRaw("outcome <> 1");
  else if (outcome === 1) void query.where({ outcome });
  else if (outcome !== undefined) void query.whereRaw("outcome <> 1 and outcome = ?", [outcome]);
  if (company !== undefined) void query.where({ company_key: company });
  return query;
}

/** Two parts, each with an index that gives it in order of time. */
function visibleActions(database: Database, company: string): Knex.Raw {
  return database.raw(
    `(select * from audit_action where company_key = ? and visible_company is null
      union all select * from audit_action where visible_company = ?) as audit_action`,
    [company, company],
  );
}
