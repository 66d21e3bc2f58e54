/**
 * The lists of users at 1,000,000 users, as an administrator sees them over HTTP. Run by hand: npm run bench:users.
 * Prints what a list of everything costs in memory and until its first byte, and what the trigram index is worth: the
 * same filters with and without it, alternately, in one run.
 */
import { fillUsers } from "./fill.ts";
import { median, seconds, startFixture, timed } from "./fixture.ts";

const users = Number(process.argv[2] ?? 1_000_000);
const query = "select * from user_account where search like lower(?) order by username limit 100";
const count = "select count(*) from user_account where search like lower(?)";

const { database, get, memory, forgetPeak, end } = await startFixture();
try {
  console.log(`${users} users, made in ${seconds(await timed(() => fillUsers(database, users)))}`);
  await (await get("/admin/users?limit=10")).text();
  await list();
  await filters();
  await plan();
} finally {
  await end();
}

async function list(): Promise<void> {
  const idle = memory("VmRSS");
  // Resets the peak memory of the start.
  forgetPeak();
  const started = performance.now();
  const response = await get("/admin/users?limit=10000000");
  let first = 0;
  let bytes = 0;
  for await (const chunk of response.body ?? []) {
    if (first === 0) first = performance.now() - started;
    bytes += chunk.length;
  }
  const whole = performance.now() - started;
  console.log(
    `GET /admin/users?limit=10000000: ${(bytes / 1e6).toFixed(0)} MB in ${seconds(whole)}, first byte after ${first.toFixed(0)} ms`,
  );
  console.log(
    `server RSS: ${idle} MB idle, ${memory("VmHWM")} MB at its peak, ${memory("VmHWM") - idle} MB above idle`,
  );
}

async function filters(): Promise<void> {
  const texts = Array.from({ length: 30 }, (_, index) => hex(index));
  const times: { indexed: number[]; scanned: number[] } = { indexed: [], scanned: [] };
  for (const text of texts) {
    times.indexed.push(await timed(async () => (await get(`/admin/users?filter=${text}`)).text()));
    times.scanned.push(
      await timed(() =>
        database.transaction(async (transaction) => {
          await transaction.raw("set local enable_bitmapscan = off; set local enable_indexscan = off");
          await transaction.raw(query, [`%${text}%`]);
          await transaction.raw(count, [`%${text}%`]);
        }),
      ),
    );
  }
  const [indexed, scanned] = [median(times.indexed), median(times.scanned)];
  console.log(
    `filter of 5 letters, GET with both totals: median ${indexed.toFixed(1)} ms; the bare SQL without the index ${scanned.toFixed(1)} ms; ratio ${(scanned / indexed).toFixed(0)}`,
  );
}

async function plan(): Promise<void> {
  const { rows } = await database.raw(`explain (analyze, costs off, timing off) ${query}`, [`%${hex(1)}%`]);
  console.log(rows.map((row: { "QUERY PLAN": string }) => `  ${row["QUERY PLAN"]}`).join("\n"));
}

/** Five letters that occur in the names of some users. */
function hex(index: number): string {
  return (0xa1b2c3 + index * 7919).toString(16).slice(0, 5);
}
