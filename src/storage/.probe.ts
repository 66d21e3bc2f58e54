import { rm } from "node:fs/promises";
import { startEmbedded } from "./embedded.ts";
import { openDatabase } from "./database.ts";
import { migrate } from "./migrate.ts";
import { streamRows } from "./stream.ts";
const folder = "/tmp/storage_probe_data";
let t = Date.now(); const lap = (n: string) => { console.log(n, Date.now() - t); t = Date.now(); };
const s = await startEmbedded({ folder, onExit: () => console.log("exit!") }); lap("first start");
const db = openDatabase({ url: s.url, poolSize: 4, statementTimeoutMs: 600000 });
await migrate(db); lap("migrate");
await db.raw("insert into company(key) select 'company_'||i from generate_series(1,1000) i");
await db.raw("insert into user_account(username,name,email,phone,company_key,enabled,roles,timezone) select 'user_'||i, 'Name '||md5(i::text), md5((i*7)::text)||'@example.com','+7'||(i*13), 'company_'||(1+i%1000), i%10<>0, case when i%100=0 then array['ADMIN'] else array['USER'] end, 3 from generate_series(1,1000000) i"); lap("insert 1M in one statement");
await db.raw("vacuum analyze user_account"); lap("vacuum analyze");
console.log((await db.raw("select pg_size_pretty(pg_table_size('user_account')) t, indexrelname, pg_size_pretty(pg_relation_size(indexrelid)) s from pg_stat_user_indexes where relname='user_account'")).rows);
const timed = async (name: string, q: () => PromiseLike<unknown>) => { const l: number[] = []; for (let i = 0; i < 4; i++) { const a = performance.now(); await q(); l.push(performance.now() - a); } console.log(name.padEnd(40), Math.min(...l).toFixed(1), "ms"); };
for (const f of ["username", "company_key", "name", "email", "phone", "enabled", "timezone", "roles"]) for (const d of ["asc", "desc"] as const)
  await timed(`sort ${f} ${d} limit 100`, () => db("user_account").select().orderBy([...new Set([f, "username"])].map((column) => ({ column, order: d }))).limit(100));
await timed("offset 900000 username", () => db("user_account").select().orderBy("username").offset(900000).limit(100));
for (const f of ["%user_77777%", "%abcdef%", "%ab%", "%a%", "%zzzz%"]) {
  await timed("page filter " + f, () => db("user_account").select().whereRaw("search like lower(?)", [f]).orderBy("username").limit(100));
  await timed("count filter " + f, () => db("user_account").first(db.raw("count(*)")).whereRaw("search like lower(?)", [f]));
}
await timed("blocked page", () => db("user_account").select().where({ enabled: false }).orderBy("username").limit(100));
await timed("admins page", () => db("user_account").select().whereRaw("'ADMIN' = any (roles)").orderBy("username").limit(100));
await timed("company page", () => db("user_account").select().where({ company_key: "company_7" }).orderBy("username").limit(100));
await timed("company page by name", () => db("user_account").select().where({ company_key: "company_7" }).orderBy("name").limit(100));
t = Date.now(); let n = 0; const mem = process.memoryUsage().rss;
for await (const page of streamRows(db, db("user_account").select().orderBy("username").limit(1000000), { limit: 1000000, signal: new AbortController().signal })) n += page.length;
lap(`stream ${n} rows; rss +${((process.memoryUsage().rss - mem) / 1e6).toFixed(0)} MB`);
await db.raw("update user_account set enabled = not enabled where id % 10 = 0"); lap("update 100k");
await db.raw("delete from user_account"); lap("delete 1M");
await db.destroy(); await s.stop(); await rm(folder, { recursive: true });
