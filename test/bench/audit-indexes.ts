/**
 * Measures what each index of the audit log costs: processor time of PostgreSQL for an inserted action, and bytes. Compares
 * all indexes, the primary key alone, and all without each of the others in turn. Run by hand: npm run bench:indexes.
 */
import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { chmod, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { columnOf } from "../../src/postgres/columns.ts";
import { openDatabase } from "../../src/postgres/database.ts";
import { startEmbedded } from "../../src/postgres/embedded/embedded.ts";
import { migrate } from "../../src/postgres/migrate.ts";
import { median } from "./fixture.ts";

const users = 2000;
const batchSize = 500;
const batches = 40;
const rounds = 6;
/** One in so many actions is no success, a change by an administrator, and seen by another company. */
const rare = { outcome: 50, change: 1000, visible: 200 };

const folder = await mkdtemp(join(tmpdir(), "tollgate-indexes-"));
await chmod(folder, 0o711);
const postgres = await startEmbedded({ folder, onExit: () => console.error("PostgreSQL has ended") });
// One connection, whose process is measured.
const database = openDatabase({ url: postgres.url, poolSize: 1, statementTimeoutMs: 3_600_000 });
try {
  await migrate(database);
  await database.raw("set synchronous_commit = off");
  const { rows: found } = await database.raw<{ rows: { name: string }[] }>(
    `select indexrelid::regclass::text as name from pg_index
     where indrelid = 'audit_action'::regclass and not indisprimary order by 1`,
  );
  const names = found.map(({ name }) => name);
  const variants = ["all", "primary key alone", ...names];
  for (const [number, variant] of variants.entries()) await makeTable(number, variant, names);
  const costs = variants.map((): number[] => []);
  const { rows: backend } = await database.raw<{ rows: { pid: number }[] }>("select pg_backend_pid() as pid");
  for (let round = 0; round <= rounds; round += 1) {
    for (const number of variants.keys()) {
      const before = cpuMs(backend[0]?.pid ?? 0);
      for (let batch = 0; batch < batches; batch += 1) await insert(number, (round * batches + batch) * batchSize);
      // The first round warms up.
      if (round > 0) costs[number]?.push(((cpuMs(backend[0]?.pid ?? 0) - before) * 1000) / (batches * batchSize));
    }
  }
  const [all = Number.NaN, bare = Number.NaN] = costs.map(median);
  console.log(`an action: ${all.toFixed(1)} µs with all indexes, ${bare.toFixed(1)} µs with the primary key alone`);
  for (const [number, name] of names.entries()) {
    const { rows: sizes } = await database.raw<{ rows: { bytes: number }[] }>(
      `select sum(pg_relation_size(indexrelid))::float8 / ${(rounds + 1) * batches * batchSize} as bytes
       from pg_index where indrelid = 'log_0'::regclass and indexrelid::regclass::text like ?`,
      [`%${name.replace("audit_action", "")}`],
    );
    const cost = all - median(costs[number + 2] ?? []);
    console.log(`${name}: ${cost.toFixed(2)} µs, ${(sizes[0]?.bytes ?? 0).toFixed(0)} bytes an action`);
  }
} finally {
  await database.destroy();
  await postgres.stop();
  await rm(folder, { recursive: true });
}
process.exit(0);

/** Makes a table with the indexes of a variant: all, the primary key alone, or all but one. */
async function makeTable(number: number, variant: string, names: readonly string[]): Promise<void> {
  await database.raw(`create table log_${number} (like audit_action including all excluding indexes)`);
  await database.raw(`alter table log_${number} add primary key (time, tracecode, operation, part)`);
  for (const name of names) {
    if (variant === "primary key alone" || variant === name) continue;
    const { rows } = await database.raw<{ rows: { definition: string }[] }>(
      "select replace(pg_get_indexdef(?::regclass), ' ONLY ', ' ') as definition",
      [name],
    );
    await database.raw(
      (rows[0]?.definition ?? "").replace(
        /INDEX \S+ ON \S+/,
        `INDEX log_${number}${name.replace("audit_action", "")} ON log_${number}`,
      ),
    );
  }
}

/** Actions in order of time, of callers whose clocks differ a little. */
async function insert(number: number, first: number): Promise<void> {
  const rows = Array.from({ length: batchSize }, (_none, index) => first + index);
  await database.raw(
    `insert into log_${number} (time, tracecode, operation, part, user_id, username, company_key, server, service,
       method_group, points, duration_ms, outcome, visible_company)
     select timestamptz '2026-11-25' + n * interval '1 millisecond', tracecode, 'run_' || n % 4,
       '00000000-0000-0000-0000-000000000000', n * 31 % ${users}, 'user_' || n * 31 % ${users},
       'company_' || n * 31 % 20, 'planner_1', case when n % ${rare.change} = 1 then 4 else 2 end, 3, n % 1000, 30,
       case when n % ${rare.outcome} = 1 then 2 else 1 end,
       case when n % ${rare.visible} = 1 then 'company_' || n % 20 end
     from unnest(?::bigint[], ?::uuid[]) as action (n, tracecode)`,
    [columnOf(rows, (row) => row), columnOf(rows, () => randomUUID())],
  );
}

/** Processor time of a process so far. */
function cpuMs(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ").at(-1)?.split(" ") ?? [];
  return (Number(fields[11]) + Number(fields[12])) * 10;
}
