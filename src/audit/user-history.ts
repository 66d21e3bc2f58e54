import { LRUCache } from "lru-cache";
import { textColumnOf } from "../postgres/columns.ts";
import { type Database, preparedAs } from "../postgres/database.ts";
import type { Micros } from "../shared/calendar.ts";

/** What a user was, from a time on. */
export interface UserVersion {
  readonly userId: number;
  readonly username: string;
  readonly companyKey: string;
  /** Hours from UTC. */
  readonly timezone: number;
}

/** Who had a name at a time, and what they were; undefined when nobody had. */
export type FindUserVersion = (username: string, time: Micros) => UserVersion | undefined;

export interface UserHistory {
  /** One question for all the names of a batch that are not at hand: few users ever change. */
  find(names: readonly string[]): Promise<FindUserVersion>;
  /** Some users have changed. */
  invalidate(): void;
}

interface Row {
  readonly username: string;
  readonly since: Micros;
  /** Null: deleted from then on. */
  readonly version: UserVersion | null;
}

const maxNames = 100_000;
/** That a change may not be heard of is why nothing is used for longer. */
const freshMs = 5000;

export function createUserHistory(database: Database): UserHistory {
  const known = new LRUCache<string, Row[]>({ max: maxNames, ttl: freshMs, ttlResolution: 50 });
  /** Changes heard of: what was read before the last one is not kept. */
  let changes = 0;

  async function readAll(names: readonly string[]): Promise<Map<string, Row[]>> {
    const found = new Map<string, Row[]>();
    const missing: string[] = [];
    for (const name of names) {
      const rows = known.get(name);
      if (rows === undefined) missing.push(name);
      else found.set(name, rows);
    }
    if (missing.length === 0) return found;
    const seen = changes;
    for (const row of await read(database, missing)) {
      const rows = found.get(row.username);
      if (rows === undefined) found.set(row.username, [row]);
      else rows.push(row);
    }
    if (seen !== changes) return found;
    for (const name of missing) {
      const rows = found.get(name);
      // Who has a name anew is not told of: it is read again until somebody has it.
      if (rows?.at(-1)?.version) known.set(name, rows);
    }
    return found;
  }

  return {
    async find(names) {
      const byName = await readAll(names);
      return (username, time) => {
        const rows = byName.get(username) ?? [];
        // What lies before the first one is of the first one: the log of another system may be older than the account.
        const row = rows.findLast(({ since }) => since <= time) ?? rows[0];
        return row?.version ?? undefined;
      };
    },
    invalidate() {
      changes += 1;
      known.clear();
    },
  };
}

async function read(database: Database, names: readonly string[]): Promise<Row[]> {
  const reading = database.raw<{ rows: Row[] }>(
    `select username, (extract(epoch from since) * 1000000)::bigint as since,
       case when company_key is not null then json_build_object(
         'userId', user_id, 'username', username, 'companyKey', company_key, 'timezone', timezone
       ) end as version
     from user_standing where username = any(?::text[]) order by since`,
    [textColumnOf(names, (name) => name)],
  );
  const { rows } = await reading.options(preparedAs("read_standings"));
  return rows;
}
