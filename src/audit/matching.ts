import type { Knex } from "knex";
import type { Database } from "../postgres/database.ts";
import { toIsoTime } from "../shared/calendar.ts";
import type { ActionFilter } from "./selection.ts";

/** Returns the query of the selected actions, to be refined. */
export function filterActions(database: Database, selection: ActionFilter): Knex.QueryBuilder {
  return unite(database, branchesOf(database, selection));
}

/**
 * Returns the query of the first selected actions in an order. Each branch is limited by itself: PostgreSQL reads an index
 * in order and stops, where a limit of the union alone would read and sort all that a company may see.
 */
export function filterFirstActions(
  database: Database,
  selection: ActionFilter,
  { order, offset, limit }: { readonly order: readonly Order[]; readonly offset: number; readonly limit: number },
): Knex.QueryBuilder {
  const branches = branchesOf(database, selection);
  if (branches.length > 1) for (const branch of branches) void branch.orderBy([...order]).limit(offset + limit);
  return unite(database, branches)
    .orderBy([...order])
    .offset(offset)
    .limit(limit);
}

interface Order {
  readonly column: string;
  readonly order: "asc" | "desc";
}

function unite(database: Database, [first, ...others]: readonly Knex.QueryBuilder[]): Knex.QueryBuilder {
  if (first === undefined) throw new Error("a selection has at least one branch");
  return others.length === 0 ? first : database.from(database.unionAll([first, ...others], true).as("audit_action"));
}

/** The actions that a partner may read are the union of two branches. Each has an index in time order. */
function branchesOf(database: Database, selection: ActionFilter): Knex.QueryBuilder[] {
  const { visibleTo } = selection;
  const all = () => filterBranch(database, selection);
  if (visibleTo === undefined) return [all()];
  return [
    all().where({ company_key: visibleTo }).whereNull("visible_company"),
    all().where({ visible_company: visibleTo }),
  ];
}

function filterBranch(database: Database, selection: ActionFilter): Knex.QueryBuilder {
  const { from, to, user, company, method, outcome } = selection;
  const query = database
    .from("audit_action")
    // Text parameters let the planner exclude partitions.
    .where("time", ">=", toIsoTime(from))
    .where("time", "<", toIsoTime(to))
    .where({ ...user, ...method });
  // Literal, so that it matches the condition of the partial index.
  if (outcome === "not success") void query.whereRaw("outcome <> 1");
  else if (outcome === 1) void query.where({ outcome });
  else if (outcome !== undefined) void query.whereRaw("outcome <> 1 and outcome = ?", [outcome]);
  if (company !== undefined) void query.where({ company_key: company });
  return query;
}
