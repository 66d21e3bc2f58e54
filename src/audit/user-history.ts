import { LRUCache } from "lru-cache";
import { textColumnOf } from "../postgres/columns.ts";
import type { Database } from "../postgres/database.ts";
import { defineStatements, keepPlan, queryRows } from "../postgres/statements.ts";
import { isFresh } from "../shared/cache.ts";
import type { Micros } from "../shared/calendar.ts";

/** The state of a user from a time on. */
export interface UserVersion {
  readonly userId: number;
  readonly username: string;
  readonly companyKey: string;
  /** Hours from UTC. */
  readonly timezone: number;
}

/** Finds the user who had a name at a time, in the state of that time. Returns undefined when no user had it. */
export type FindUserVersion = (username: string, time: Micros) => UserVersion | undefined;

export interface UserHistory {
  /** Reads the history of the names. Names that are not cached take one query together. */
  find(names: readonly string[]): Promise<FindUserVersion>;
  /** Invalidates the cache after users have changed. */
  invalidate(): void;
}

interface Row {
  readonly username: string;
  readonly since: Micros;
  /** Null: the user was deleted at that time. */
  readonly version: UserVersion | null;
}

export interface UserHistoryOptions {
  readonly database: Database;
  /** How long changes may have gone unnoticed, in milliseconds. 0: every change leads to `invalidate`. */
  readonly unnoticedMs: () => number;
  /** Monotonic milliseconds. */
  readonly now?: () => number;
}

const maxNames = 100_000;

/** Creates the cached lookup of names and companies that users had at a time. */
export function createUserHistory(options: UserHistoryOptions): UserHistory {
  const { database, unnoticedMs, now = () => performance.now() } = options;
  const known = new LRUCache<string, { readonly rows: Row[]; readonly readMs: number }>({ max: maxNames });
  /** Number of invalidations: a read that began before the last one is not cached. */
  let invalidations = 0;

  async function readAll(names: readonly string[]): Promise<Map<string, Row[]>> {
    const found = new Map<string, Row[]>();
    const missing: string[] = [];
    const [nowMs, unnoticed] = [now(), unnoticedMs()];
    for (const name of names) {
      const kept = known.get(name);
      if (kept !== undefined && isFresh(nowMs - kept.readMs, unnoticed)) found.set(name, kept.rows);
      else missing.push(name);
    }
    if (missing.length === 0) return found;
    const before = invalidations;
    for (const row of await read(database, missing)) {
      const rows = found.get(row.username);
      if (rows === undefined) found.set(row.username, [row]);
      else rows.push(row);
    }
    if (before !== invalidations) return found;
    for (const name of missing) {
      const rows = found.get(name);
      // Names without a user are not cached: the creation of a user does not invalidate them.
      if (rows?.at(-1)?.version) known.set(name, { rows, readMs: nowMs });
    }
    return found;
  }

  return {
    async find(names) {
      const byName = await readAll(names);
      return (username, time) => {
        const rows = byName.get(username) ?? [];
        // A time before the first entry has the first entry: imported logs may be older than the account.
        const row = rows.findLast(({ since }) => since <= time) ?? rows[0];
        return row?.version ?? undefined;
      };
    },
    invalidate() {
      invalidations += 1;
      known.clear();
    },
  };
}

async function read(database: Database, names: readonly string[]): Promise<Row[]> {
  return queryRows(database, sql.readHistory, [textColumnOf(names, (name) => name)]);
}

const sql = defineStatements("user-history", {
  readHistory: keepPlan(`
    select username, (extract(epoch from since) * 1000000)::bigint as since,
      case when company_key is not null then json_build_object(
        'userId', user_id, 'username', username, 'companyKey', company_key, 'timezone', timezone
      ) end as version
    from user_standing where username = any($1::text[]) order by since`),
});
