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

test("several contradictions of one meter share one retry while the counters do not answer", async () => {
  let attempts = 0;
  const forget = () => Promise.reject(new Error(`no answer, ${(attempts += 1)}`));
  const { correct, stop } = createCorrections({ forget, logger, retryMs: 1 });
  const correcting = [correct(meter), correct(meter), correct(meter)];
  await Promise.all(correcting.slice(1));
  expect(attempts).toBe(3);
  stop();
  await correcting[0];
  expect(attempts).toBeLessThanOrEqual(4);
});
