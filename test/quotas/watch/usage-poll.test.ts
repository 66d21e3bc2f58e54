import { expect, test } from "vitest";
import { createCounters } from "../../../src/quotas/counters/counters.ts";
import { createMemoryEngine } from "../../../src/quotas/counters/memory.ts";
import { methodKey } from "../../../src/quotas/limits/subjects.ts";
import { createUsagePoll, type Watcher } from "../../../src/quotas/watch/usage-poll.ts";

const subject = {
  userId: 1,
  username: "anna",
  companyKey: "acme",
  enabled: true,
  timezone: 0,
  quotas: new Map([[methodKey(1, 2), [{}]]]),
};

test("a user is read for a watcher that comes while the last one leaves", async () => {
  const engine = createMemoryEngine({
    now: () => Date.UTC(2026, 10, 26, 12),
    remember: { ms: 60_000, operations: 100 },
  });
  const counters = createCounters({
    engine,
    readSnapshot: async (_meter, { day, window }) => ({
      day,
      timezone: 0,
      window,
      dayUsed: 0,
      windowUsed: 0,
      leases: [],
    }),
    findLease: async () => undefined,
  });
  const poll = createUsagePoll({ subjects: { byName: async () => subject }, counters, byDefault: [] });
  const seen: string[] = [];
  const watcherOf = (name: string): Watcher => ({
    invalidated: () => undefined,
    changed: () => void seen.push(name),
    failed: (error) => expect.fail(String(error)),
  });
  const first = watcherOf("first");
  const user = await poll.watch("anna", first);
  const coming = poll.watch("anna", watcherOf("second"));
  if (user !== undefined) poll.unwatch(user, first);
  await coming;
  await poll.readNext();
  expect(seen).toEqual(["second"]);
});
