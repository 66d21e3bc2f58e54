import type { Knex } from "knex";
import { toIso } from "../core/instant.ts";
import type { Database } from "../storage/database.ts";
import type { Selection } from "./selection.ts";

/** The selection's actions, as a query that others refine. */
export function matching(database: Database, selection: Selection): Knex.QueryBuilder {
  const { from, to, user, companies, method } = selection;
  const query = database("audit_action")
    // As texts: the planner then knows the partitions.
    .whereRaw("time >= ? and time < ?", [toIso(from), toIso(to)])
    .where({ ...user, ...method });
  for (const company of companies) void query.where("company_key", company);
  return query;
}
