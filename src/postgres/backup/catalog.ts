import type pg from "pg";
import type { BackupHeader, BackupSequence, BackupTable } from "./format.ts";

/**
 * Reads the tables of the database, their columns and partitions, in an order in which they can be filled. Leaves out
 * generated columns, and the tables of migrations and of the counter generation. A restored database has a new identity, so
 * it never uses counters of another database.
 */
export async function readCatalog(client: pg.ClientBase): Promise<BackupTable[]> {
  const { rows } = await client.query<BackupTable & { readonly refers: readonly string[] }>(`
    select relname::text as name,
      array(select attname::text from pg_attribute
        where attrelid = t.oid and attnum > 0 and not attisdropped and attgenerated = '' order by attname) as columns,
      array(select to_char(right(relname, 8)::date, 'YYYYMMDD') from pg_inherits join pg_class p on p.oid = inhrelid
        where inhparent = t.oid order by relname) as days,
      array(select r.relname::text from pg_constraint join pg_class r on r.oid = confrelid
        where conrelid = t.oid and contype = 'f' and confrelid <> t.oid) as refers
    from pg_class t
    where relnamespace = current_schema()::regnamespace and relkind in ('r', 'p') and not relispartition
      and relname not in ('migration', 'counter_store', 'counter_generation')
      -- The remains of an interrupted retention.
      and relname !~ '^(lease|usage_point|audit_action|data_chunk)_[0-9]{8}$'
    order by relname`);
  const ordered: BackupTable[] = [];
  const left = new Map(rows.map((row) => [row.name, row]));
  while (left.size > 0) {
    const next = [...left.values()].filter(({ refers }) => !refers.some((name) => left.has(name)));
    if (next.length === 0) throw new Error("foreign keys of the database make a circle");
    for (const { name, columns, days } of next) {
      ordered.push({ name, columns, days });
      left.delete(name);
    }
  }
  return ordered;
}

/** Reads the applied migrations. Returns none when the database has no tables. */
export async function readApplied(client: pg.ClientBase): Promise<BackupHeader["migrations"]> {
  const { rows } = await client.query<{ present: boolean }>("select to_regclass('migration') is not null as present");
  if (rows[0]?.present !== true) return [];
  return (await client.query("select number, checksum from migration order by number")).rows;
}

/** Reads the sequences of identity columns. A sequence may be ahead of the snapshot, never behind it. */
export async function readSequences(client: pg.ClientBase): Promise<BackupSequence[]> {
  const { rows } = await client.query<{ table: string; column: string; sequence: string }>(`
    select relname::text as table, attname::text as column,
      pg_get_serial_sequence(quote_ident(relname), attname) as sequence
    from pg_attribute join pg_class t on t.oid = attrelid
    where relnamespace = current_schema()::regnamespace and attidentity <> '' and not relispartition
      and relkind in ('r', 'p') order by 1, 2`);
  const sequences: BackupSequence[] = [];
  for (const { table, column, sequence } of rows) {
    const state = await client.query<{ value: string; isCalled: boolean }>(
      `select last_value::text as value, is_called as "isCalled" from ${sequence}`,
    );
    const [found] = state.rows;
    if (found !== undefined) sequences.push({ table, column, ...found });
  }
  return sequences;
}

/** `"table" ("column", …)` for COPY. The names come from the catalog of this database. */
export function quoteTable({ name, columns }: BackupTable): string {
  return `${quoteName(name)} (${columns.map(quoteName).join(", ")})`;
}

/** Quotes a name for SQL. */
export function quoteName(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}
