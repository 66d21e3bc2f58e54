import type { Knex } from "knex";
import { toIso } from "../core/instant.ts";
import type { Database } from "../storage/database.ts";
import type { Selection } from "./selection.ts";

/** The selection's actions, as a query that others refine. */
export function matching(database: Database, selection: Selection): Knex.QueryBuilder {
  const { from, to, user, companies, method, outcome } = selection;
  const query = database("audit_action")
    // As texts: the planner then knows the partitions.
    .whereRaw("time >= ? and time < ?", [toIso(from), toIso(to)])
    .where({ ...user, ...method });
  // Written out: the index of these actions has the same condition.
  if (outcome === "not success") void query.whereRaw("outcome <> 1");
  else if (outcome === 1) void query.where({ outcome });
  else if (outcome !== undefined) void query.whereRaw("outcome <> 1 and outcome = ?", [outcome]);
  for (const company of companies) void query.where("company_key", company);
  return query;
}
