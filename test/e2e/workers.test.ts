import { readFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createTestDatabase } from "../support/database.ts";
import { runProcess, startProcess } from "../support/process.ts";
import { noRedis, startRedis } from "../support/redis.ts";

type Stand = Awaited<ReturnType<typeof createTestDatabase>> & {
  readonly redis: Awaited<ReturnType<typeof startRedis>>;
};

/** The processes that a process has started. */
function childrenOf(pid: number | undefined): number[] {
  return readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").split(" ").filter(Boolean).map(Number);
}

const isRunning = (pid: number) => {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
};

describe.skipIf(noRedis !== "")(`WORKERS=2 ${noRedis}`, () => {
  let stand: Stand;
  beforeAll(async () => {
    stand = { ...(await createTestDatabase()), redis: await startRedis() };
  });
  afterAll(async () => {
    await stand.redis.kill();
    await stand.drop();
  });
  const settings = () => ({
    WORKERS: "2",
    DATABASE_URL: stand.url,
    REDIS_URL: stand.redis.url,
    TOKEN_KEYS: "a-secret-for-tests-that-is-long-enough",
    ADMIN_PASSWORD: "first administrator",
  });

  test("serve one port, are started again when they fall, and drain together", { timeout: 180_000 }, async () => {
    const server = await startProcess(settings());
    const answers = async () => (await fetch(`${server.url}/admin/system/check`)).status;
    const workers = childrenOf(server.process.pid);
    expect(workers).toHaveLength(2);
    expect(await answers()).toBe(200);

    process.kill(workers[0] as number, "SIGKILL");
    // The other one goes on meanwhile.
    expect(await answers()).toBe(200);
    await expect.poll(() => childrenOf(server.process.pid).filter((pid) => !workers.includes(pid)).length).toBe(1);
    expect(server.output()).toMatch(/a worker has fallen/);
    // Each of two takes every second connection: both serve.
    const both = async () => Promise.all([answers(), answers(), answers(), answers()]);
    await expect.poll(both, { timeout: 20_000 }).toEqual([200, 200, 200, 200]);

    const last = childrenOf(server.process.pid);
    expect(await server.end()).toBe(0);
    expect(last.filter(isRunning)).toEqual([]);
  });

  test("end with the reason when they cannot serve", { timeout: 180_000 }, async () => {
    const { code, output } = await runProcess({ ...settings(), HOST: "192.0.2.1" });
    expect(code).toBe(1);
    expect(output.match(/HOST and PORT/g)).toHaveLength(1);
  });
});
