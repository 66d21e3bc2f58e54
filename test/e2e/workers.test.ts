import { readFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createTestDatabase } from "../support/database.ts";
import { runProcess, startProcess } from "../support/process.ts";
import { noRedis, startRedis } from "../support/redis.ts";

type Fixture = Awaited<ReturnType<typeof createTestDatabase>> & {
  readonly redis: Awaited<ReturnType<typeof startRedis>>;
};

/** Returns the child processes of a process. */
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
  let fixture: Fixture;
  beforeAll(async () => {
    fixture = { ...(await createTestDatabase()), redis: await startRedis() };
  });
  afterAll(async () => {
    await fixture.redis.kill();
    await fixture.drop();
  });
  const settings = () => ({
    WORKERS: "2",
    DATABASE_URL: fixture.url,
    REDIS_URL: fixture.redis.url,
    TOKEN_KEYS: "a-secret-for-tests-that-is-long-enough",
    ADMIN_PASSWORD: "first administrator",
  });

  test("workers serve one port, are restarted when they die, and drain together", { timeout: 180_000 }, async () => {
    const server = await startProcess(settings());
    const answers = async () => (await fetch(`${server.url}/admin/system/check`)).status;
    const workers = childrenOf(server.process.pid);
    expect(workers).toHaveLength(2);
    expect(await answers()).toBe(200);

    process.kill(workers[0] as number, "SIGKILL");
    // The other worker keeps serving meanwhile.
    expect(await answers()).toBe(200);
    await expect.poll(() => childrenOf(server.process.pid).filter((pid) => !workers.includes(pid)).length).toBe(1);
    await expect.poll(() => server.output()).toMatch(/worker exited; restarting/);
    // The two workers take connections in turn: both serve.
    const both = async () => Promise.all([answers(), answers(), answers(), answers()]);
    await expect.poll(both, { timeout: 20_000 }).toEqual([200, 200, 200, 200]);

    const last = childrenOf(server.process.pid);
    expect(await server.end()).toBe(0);
    expect(last.filter(isRunning)).toEqual([]);
  });

  test("workers that cannot listen end the process with the reason", { timeout: 180_000 }, async () => {
    const { code, output } = await runProcess({ ...settings(), HOST: "192.0.2.1" });
    expect(code).toBe(1);
    expect(output.match(/HOST and PORT/g)).toHaveLength(1);
  });
});
