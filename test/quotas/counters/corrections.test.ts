import pino from "pino";
import { expect, test } from "vitest";
import { createCorrections } from "../../../src/quotas/counters/corrections.ts";
import type { Meter } from "../../../src/quotas/counters/engine.ts";

const logger = pino({ level: "silent" });
const meter: Meter = { userId: 1, service: 2, methodGroup: 3 };

test("retries until the counters forget a contradicted meter, and then stops", async () => {
  const forgotten: Meter[] = [];
  let failures = 2;
  const forget = async (meter: Meter) => {
    if (failures > 0) throw new Error(`no answer, ${(failures -= 1)} more`);
    forgotten.push(meter);
  };
  const { correct } = createCorrections({ forget, logger, retryMs: 1 });
  await correct(meter);
  expect(forgotten).toEqual([meter]);
});

test("many meters that fail together are one line in the log, and wait once for the next attempt", async () => {
  const lines: string[] = [];
  const log = pino({ level: "warn" }, { write: (line) => void lines.push(line) });
  const forgotten: Meter[] = [];
  let attempts = 0;
  const forget = async (dropped: Meter) => {
    attempts += 1;
    if (attempts <= 6) throw new Error("no answer");
    forgotten.push(dropped);
  };
  const { correct, count } = createCorrections({ forget, logger: log, retryMs: 1 });
  const meters = [1, 2, 3].map((userId) => ({ ...meter, userId }));
  await Promise.all([...meters, ...meters].map(correct));
  expect(new Set(forgotten)).toEqual(new Set(meters));
  expect([forgotten.length, count(), lines.length]).toEqual([3, 3, 1]);
});

test("a meter that keeps failing delays no other", async () => {
  const forgotten: number[] = [];
  const { correct, stop } = createCorrections({
    async forget({ userId }) {
      if (userId === 1) throw new Error("no answer");
      forgotten.push(userId);
    },
    logger,
    retryMs: 1,
  });
  const correcting = [1, 2, 3].map((userId) => correct({ ...meter, userId }));
  await expect.poll(() => forgotten).toEqual([2, 3]);
  stop();
  await Promise.all(correcting);
});

test("drops a meter again that becomes wrong while it is dropped", async () => {
  let drops = 0;
  const { correct } = createCorrections({
    forget: async () => {
      drops += 1;
      if (drops === 1) void correct(meter);
    },
    logger,
  });
  await correct(meter);
  expect(drops).toBe(2);
});

test("ends retries at the stop", async () => {
  let attempts = 0;
  const forget = async () => {
    attempts += 1;
    if (attempts === 3) stop();
    throw new Error("no answer");
  };
  const { correct, stop } = createCorrections({ forget, logger, retryMs: 1 });
  await correct(meter);
  expect(attempts).toBe(3);
});
