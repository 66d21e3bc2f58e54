import type { Micros } from "../core/instant.ts";
import type { Database } from "../storage/database.ts";

/** What a user was, from a time on. */
export interface Standing {
  readonly userId: number;
  readonly username: string;
  readonly companyKey: string;
  /** Hours from UTC. */
  readonly timezone: number;
}

interface Row {
  readonly username: string;
  readonly since: Micros;
  /** Null: deleted from then on. */
  readonly standing: Standing | null;
}

/** Who had a name at a time, and what they were; undefined when nobody had. */
export type FindStanding = (username: string, time: Micros) => Standing | undefined;

/** One question for all the names of a batch: few users ever change. */
export async function readStandings(database: Database, names: readonly string[]): Promise<FindStanding> {
  const { rows } = await database.raw<{ rows: Row[] }>(
    `select username, (extract(epoch from since) * 1000000)::bigint as since,
       case when company_key is not null then json_build_object(
         'userId', user_id, 'username', username, 'companyKey', company_key, 'timezone', timezone
       ) end as standing
     from user_standing where username = any(?::text[]) order by since`,
    [names] as never,
  );
  const byName = new Map<string, Row[]>();
  for (const row of rows) {
    const known = byName.get(row.username);
    if (known === undefined) byName.set(row.username, [row]);
    else known.push(row);
  }
  return (username, time) => {
    const known = byName.get(username) ?? [];
    // What lies before the first one is of the first one: the log of another system may be older than the account here.
    const row = known.findLast(({ since }) => since <= time) ?? known[0];
    return row?.standing ?? undefined;
  };
}
