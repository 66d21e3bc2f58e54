/**
 * Measures what a calculation costs, for the arithmetic of docs/scale.md: processor time and bytes of an acquire and a
 * settlement. Run by hand: npm run bench:scale. It needs redis-server and taskset. Processor time is little affected by
 * other load; wall time would be.
 */
import { execFileSync } from "node:child_process";
import { Redis } from "ioredis";
import { openDatabase } from "../../src/postgres/database.ts";
import { startFixture } from "./rivals/fixture.ts";
import { load } from "./rivals/measure.ts";
import { childrenOf, cpuSeconds } from "./rivals/processes.ts";

const rounds = Number(process.env.ROUNDS ?? 5);
const callers = 64;

execFileSync("npx", ["tsc", "-p", "tsconfig.build.json"], { stdio: "inherit" });
const fixture = await startFixture();
const redis = new Redis(fixture.environment.REDIS_URL ?? "");
const url = fixture.environment.DATABASE_URL ?? "";
const database = openDatabase({ url, poolSize: 2, statementTimeoutMs: 60_000 });
try {
  await load("pairs", fixture.server.url, fixture.token, callers);
  const before = await read();
  for (let round = 0; round < rounds; round += 1) await load("pairs", fixture.server.url, fixture.token, callers);
  const after = await read();
  const pairs = after.leases - before.leases;
  const micros = (part: "server" | "redis" | "postgres") => Math.round(((after[part] - before[part]) / pairs) * 1e6);
  const bytes = (part: "leaseBytes" | "auditBytes") => Math.round((after[part] - before[part]) / pairs);
  console.log(`${pairs} acquires and settlements by ${callers} callers; each takes`);
  console.log(`  server      ${micros("server")} us of a core`);
  console.log(`  Redis       ${micros("redis")} us of a core`);
  console.log(`  PostgreSQL  ${micros("postgres")} us of a core`);
  console.log(`  lease       ${bytes("leaseBytes")} bytes with indexes`);
  console.log(`  audit log   ${bytes("auditBytes")} bytes with indexes`);
  console.log(await describeMeter());
} finally {
  redis.disconnect();
  await database.destroy();
  await fixture.stop();
}

async function read() {
  const backends = [fixture.postgresPid, ...childrenOf(fixture.postgresPid)];
  const sizes = async (prefix: string): Promise<number> => {
    const { rows } = await database.raw(
      `select coalesce(sum(pg_total_relation_size(oid)), 0)::bigint as bytes from pg_class
       where relkind = 'r' and relname like ?`,
      [`${prefix}%`],
    );
    return rows[0].bytes;
  };
  const { rows } = await database.raw("select count(*)::bigint as leases from lease where state = 2");
  return {
    server: cpuSeconds(fixture.server),
    redis: cpuSeconds(fixture.redis),
    postgres: backends.reduce((sum, pid) => sum + cpuSeconds({ child: { pid } }), 0),
    leases: rows[0].leases as number,
    leaseBytes: await sizes("lease_"),
    auditBytes: await sizes("audit_action_"),
  };
}

/** Returns the memory of the largest meter in Redis, and the operations that it remembers. */
async function describeMeter(): Promise<string> {
  const names = await redis.keys("tollgate:*:leases");
  const meters = await Promise.all(
    names.map(async (leases) => {
      const keys = [leases.replace(/leases$/, "state"), leases];
      const bytes = await Promise.all(keys.map((key) => redis.memory("USAGE", key, "SAMPLES", 0)));
      const fields = await redis.hkeys(keys[0] ?? "");
      const operations = fields.filter((field) => field.startsWith("l")).length;
      return { operations, bytes: bytes.reduce<number>((sum, size) => sum + (size ?? 0), 0) };
    }),
  );
  const [largest] = meters.toSorted((left, right) => right.operations - left.operations);
  if (largest === undefined) throw new Error("Redis holds no meter");
  return `  a meter     ${largest.bytes} bytes in Redis with ${largest.operations} remembered operations`;
}
