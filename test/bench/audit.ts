/**
 * The audit log over 90 days and 2,000 users, as an administrator sees it over HTTP. Run by hand: npm run bench:audit.
 * Prints what a page costs at 1,000,000 and at 10,000,000 actions, and what a list of a million costs in memory.
 */
import { ensurePartitions } from "../../src/postgres/partitions.ts";
import { median, seconds, startFixture, timed } from "./fixture.ts";

const sizes = [1_000_000, Number(process.argv[2] ?? 10_000_000)];
const users = 2000;
const days = 90;
const dayMs = 86_400_000;
const today = Math.floor(Date.now() / dayMs);
const from = new Date((today - days) * dayMs + 3_600_000 * 5.5).toISOString();
const to = new Date(today * dayMs - 3_600_000 * 3.5).toISOString();

/** The queries of the pages. Every user has actions of run_1. */
const queries = {
  "90 days, method_group": `from=${from}&to=${to}&method_group=PLAN`,
  "90 days, company, service": `from=${from}&to=${to}&company_key=company_7&service_name=ROUTING`,
  "90 days, username": `from=${from}&to=${to}&username=user_77`,
  "90 days, rare operation": `from=${from}&to=${to}&operation_id=create_user`,
  "90 days, newest first": `from=${from}&to=${to}&operation_id=run_1&sort_direction=DESC`,
  "90 days, sort by username": `from=${from}&to=${to}&sort_field=username`,
  "one day, sort by points": `from=${new Date((today - 2) * dayMs).toISOString()}&to=${new Date((today - 1) * dayMs).toISOString()}&sort_field=points_count`,
  today: "",
};

const { database, get, memory, forgetPeak, end } = await startFixture();
try {
  await makeUsers();
  const rows: Record<string, number[]> = {};
  for (const size of sizes) {
    await fill(size);
    await pages(rows);
  }
  print(rows);
  await plans();
  await list();
} finally {
  await end();
}

async function makeUsers(): Promise<void> {
  await database.raw("insert into company (key) select 'company_' || i from generate_series(0, 19) as i");
  await database.raw(
    `insert into user_account (username, company_key, enabled, roles, timezone)
     select 'user_' || i, 'company_' || i % 20, true, '{USER}', 0 from generate_series(0, ?) as i`,
    [users - 1],
  );
}

/** Writes actions and their totals as the writer would have. */
async function fill(size: number): Promise<void> {
  const started = performance.now();
  await ensurePartitions(
    database,
    "audit_action",
    new Set(Array.from({ length: days + 2 }, (_, i) => today - days + i)),
  );
  await database.raw("truncate audit_action");
  const step = 250_000;
  // In order of time, as in production.
  for (let first = 0; first < size; first += step) {
    await database.raw(
      `insert into audit_action (
         time, tracecode, operation, part, user_id, username, company_key, server, service, method_group, points,
         duration_ms, outcome
       )
       select to_timestamp(?) + i * ?::float8 * interval '1 second', gen_random_uuid(),
         case when i % 100003 = 7 then 'create_user' else 'run_' || i % 4 end,
         '00000000-0000-0000-0000-000000000000', i * 31 % ?, 'user_' || i * 31 % ?, 'company_' || i * 31 % 20,
         'planner_1', case when i % 100003 = 7 then 4 else 1 + (i * 31 % ?) % 3 end, 2 + i % 4, i % 1000, i % 5000, 1
       from generate_series(?::bigint, ?) as i`,
      [((today - days) * dayMs) / 1000, (days * 86_400) / size, users, users, users, first, first + step - 1],
    );
  }
  await database.raw("truncate audit_total");
  for (const [level, name, span, unit, user] of [
    [0, "''", 1, "hour", "0, ''"],
    [0, "''", 24, "day", "0, ''"],
    [1, "company_key", 1, "hour", "0, ''"],
    [1, "company_key", 24, "day", "0, ''"],
    [2, "username", 24, "day", "user_id, company_key"],
  ] as const) {
    await database.raw(
      `insert into audit_total
       select ${level}, ${name}, ${span}, date_trunc('${unit}', time, 'UTC') as start, ${user}, service, method_group,
         operation, count(*)
       from audit_action group by ${level === 2 ? "username, user_id, company_key, 4, 7, 8, 9" : `${level === 1 ? "company_key, " : ""}4, 7, 8, 9`}`,
    );
  }
  await database.raw("vacuum analyze audit_action");
  await database.raw("vacuum analyze audit_total");
  const counts = await database("audit_total").count<{ count: number }[]>();
  console.log(`${size} actions, ${counts[0]?.count} totals, made in ${seconds(performance.now() - started)}`);
}

async function pages(rows: Record<string, number[]>): Promise<void> {
  for (const offset of [0, 100_000]) {
    for (const [name, query] of Object.entries(queries)) {
      const path = `/admin/audit?${query}&offset=${offset}`;
      await (await get(path)).text();
      const times: number[] = [];
      for (let round = 0; round < 11; round += 1) times.push(await timed(async () => (await get(path)).text()));
      (rows[`${name}, offset ${offset}`] ??= []).push(median(times));
    }
  }
}

function print(rows: Record<string, number[]>): void {
  console.log(`median of 11 GETs with both totals, ms | ${sizes.join(" | ")} | growth`);
  for (const [name, times] of Object.entries(rows)) {
    const [small = Number.NaN, large = Number.NaN] = times;
    console.log(`${name} | ${times.map((time) => time.toFixed(1)).join(" | ")} | ${(large / small).toFixed(2)}`);
  }
}

async function plans(): Promise<void> {
  const order = "order by time, tracecode, operation, part limit 100";
  for (const [what, sql] of [
    ["a page", `select * from audit_action where time >= '${from}' and time < '${to}' and method_group = 3 ${order}`],
    [
      "a page of a user",
      `select * from audit_action where time >= '${from}' and time < '${to}' and username = 'user_77' ${order}`,
    ],
    [
      "the total",
      `select start, sum(total) from audit_total where level = 0 and name = '' and span = 24 and method_group = 3
       and start >= '${from}' and start < '${to}' group by 1`,
    ],
  ] as const) {
    const { rows } = await database.raw(`explain (analyze, costs off, timing off) ${sql}`);
    const lines = rows.map((row: { "QUERY PLAN": string }) => `  ${row["QUERY PLAN"]}`);
    const executed = lines.filter(
      (line: string) =>
        !line.includes("never executed") && !/^ +(Index Cond|Filter|Index Searches|Rows Removed)/.test(line),
    );
    console.log(`${what}:\n${executed.slice(0, 12).join("\n")}\n${lines.at(-1)}`);
  }
}

async function list(): Promise<void> {
  const idle = memory("VmRSS");
  forgetPeak();
  const started = performance.now();
  const response = await get(`/admin/audit?from=${from}&to=${to}&limit=1000000`);
  let first = 0;
  let bytes = 0;
  for await (const chunk of response.body ?? []) {
    if (first === 0) first = performance.now() - started;
    bytes += chunk.length;
  }
  const whole = performance.now() - started;
  console.log(
    `GET limit=1000000: ${(bytes / 1e6).toFixed(0)} MB in ${seconds(whole)}, ${(1e9 / whole).toFixed(0)} rows/s, first byte after ${first.toFixed(0)} ms; RSS ${idle} MB idle, ${memory("VmHWM") - idle} MB more at its peak`,
  );
}
