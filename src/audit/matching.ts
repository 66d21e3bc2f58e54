import type { Knex } from "knex";
import type { Database } from "../postgres/database.ts";
import { toIsoTime } from "../shared/calendar.ts";
import type { ActionFilter } from "./selection.ts";

/** Returns the query of the selected actions, to be refined. */
export function filterActions(database: Database, selection: ActionFilter): Knex.QueryBuilder {
  const { from, to, user, company, visibleTo, method, outcome } = selection;
  const query = database
    .from(visibleTo === undefined ? "audit_action" : visibleActions(database, visibleTo))
    // Text parameters let the planner exclude partitions.
    .whereRaw("time >= ? and time < ?", [toIsoTime(from), toIsoTime(to)])
    .where({ ...user, ...method });
  // Literal, so that it matches the condition of the partial index.
  if (outcome === "not success") void query.whereRaw("outcome <> 1");
  else if (outcome === 1) void query.where({ outcome });
  else if (outcome !== undefined) void query.whereRaw("outcome <> 1 and outcome = ?", [outcome]);
  if (company !== undefined) void query.where({ company_key: company });
  return query;
}

/** Returns the union of two selections, each with an index in order of time. */
function visibleActions(database: Database, company: string): Knex.Raw {
  return database.raw(
    `(select * from audit_action where company_key = ? and visible_company is null
      union all select * from audit_action where visible_company = ?) as audit_action`,
    [company, company],
  );
}
