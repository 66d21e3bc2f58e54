import { randomUUID } from "node:crypto";
import { createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { QuotaService } from "#gen/tollgate/v1/lease_pb.js";
import { Method_Group, Service_Name } from "#gen/tollgate/v1/tracedata_pb.js";
import { dayMs, hourMs } from "../../../src/shared/calendar.ts";
import { startTestApp, type TestApp } from "../../support/app.ts";
import { noOwnRedis, startRedis, type TestRedis } from "../../support/redis.ts";

const perDay = 60;
const timezones = [-5, 0, 3];

let app: TestApp;
/** How far the server's clock is ahead, in milliseconds. */
let aheadMs = 0;

/** The start of the next day at the offset. */
function nextMidnight(timezone: number): number {
  const local = Date.now() + aheadMs + timezone * hourMs;
  return (Math.floor(local / dayMs) + 1) * dayMs - timezone * hourMs;
}

function moveTo(timeMs: number): void {
  const step = timeMs - (Date.now() + aheadMs);
  aheadMs += step;
  app.advance(step);
}

describe.skipIf(noOwnRedis !== "").each(["in this process", "in Redis"])("with counters %s", (engine) => {
  let redis: TestRedis | undefined;
  beforeAll(async () => {
    aheadMs = 0;
    if (engine === "in Redis") redis = await startRedis();
    app = await startTestApp(redis === undefined ? {} : { REDIS_URL: redis.url }, { movesRedis: true });
    await app.user({ username: "planner", roles: ["BOT"] });
  });
  afterAll(async () => {
    await app.stop();
    await redis?.kill();
  });

  // In the order of their midnights, because the clock moves forward only.
  test.each(timezones.toSorted((left, right) => nextMidnight(left) - nextMidnight(right)))(
    "grants each day's points once around midnight at UTC%i under load",
    async (timezone) => {
      const users = await Promise.all(
        timezones.map(async (timezone) => {
          const username = await app.user({ timezone });
          await app.setLimits(username, { points_per_day: perDay });
          return { username, timezone };
        }),
      );
      const midnight = nextMidnight(timezone);
      moveTo(midnight - 60_000);
      const headers = { authorization: `Bearer ${await app.token("planner")}` };
      const client = createClient(QuotaService, createGrpcTransport({ baseUrl: app.url }));

      const granted = { before: 0, after: 0 };
      const progress = { isOver: false };
      const observed = users.find((user) => user.timezone === timezone)?.username ?? "";
      const caller = async () => {
        while (!progress.isOver) {
          for (const { username } of users) {
            const request = { username, service: Service_Name.ROUTING, methodGroup: Method_Group.PLAN, points: 1 };
            const answer = await client
              .acquireQuota({ ...request, operationId: randomUUID() }, { headers })
              .catch(() => undefined);
            const { lease } = answer ?? {};
            if (lease === undefined) continue;
            if (username === observed)
              granted[Number(lease.grantedTime?.seconds) * 1000 < midnight ? "before" : "after"] += 1;
            await client.settleLease({ leaseId: lease.leaseId, points: 1 }, { headers });
          }
        }
      };
      const callers = Array.from({ length: 16 }, caller);
      await expect.poll(() => granted.before, { timeout: 10_000 }).toBeGreaterThan(perDay / 3);
      moveTo(midnight);
      await expect.poll(() => granted.after, { timeout: 10_000 }).toBe(perDay);
      progress.isOver = true;
      await Promise.all(callers);

      expect(granted.before).toBeLessThanOrEqual(perDay);
      for (const { username, timezone: userTimezone } of users) {
        const days = await app.database("usage_with_pending").where({ username }).select("points").orderBy("date");
        const points = days.map((day) => day.points);
        // For users at other offsets the day does not change.
        expect(points).toEqual(userTimezone === timezone ? [granted.before, perDay] : [perDay]);
      }
    },
  );
});
