import { randomUUID } from "node:crypto";
import { type Client, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { QuotaService } from "#gen/tollgate/v1/lease_pb.js";
import { Method_Group, Service_Name } from "#gen/tollgate/v1/tracedata_pb.js";
import { startTestApp, type TestApp } from "../support/app.ts";
import { noOwnRedis, startRedis, type TestRedis } from "../support/redis.ts";

const limits = { points_per_day: 400, points_per_date_window: 4000, max_concurrent_execution: 3 };
const userCount = 10;

describe.skipIf(noOwnRedis !== "")("two servers on one Redis and one PostgreSQL", () => {
  let redis: TestRedis;
  let servers: TestApp[];
  let clients: Client<typeof QuotaService>[];
  let usernames: string[];
  beforeEach(async () => {
    redis = await startRedis();
    const first = await startTestApp({ REDIS_URL: redis.url });
    const second = await startTestApp({ REDIS_URL: redis.url, DATABASE_URL: first.databaseUrl });
    servers = [first, second];
    await first.user({ username: "planner", roles: ["SERVICE"] });
    const authorization = `Bearer ${await first.token("planner")}`;
    clients = servers.map(({ url }) =>
      createClient(
        QuotaService,
        createGrpcTransport({
          baseUrl: url,
          interceptors: [
            (next) => (request) => {
              request.header.set("authorization", authorization);
              return next(request);
            },
          ],
        }),
      ),
    );
    const company_key = await first.company();
    usernames = await Promise.all(
      Array.from({ length: userCount }, async () => {
        const username = await first.user({ company_key });
        const body = { services: [{ service: "ROUTING", methods: [{ method_group: "PLAN", ...limits }] }] };
        await first.http("PUT", `/admin/quotas/${username}`, { token: first.admin, body });
        return username;
      }),
    );
  });
  afterEach(async () => {
    await servers[1]?.stop();
    await servers[0]?.stop();
    await redis.kill();
  });

  const pick = <Item>(items: readonly Item[]): Item => items[Math.floor(Math.random() * items.length)] as Item;

  /** One operation from its beginning to its end, as a planner with an unreliable network would do it. */
  async function operation(running: Map<string, number>, peaks: Map<string, number>): Promise<void> {
    const username = pick(usernames);
    const points = 1 + Math.floor(Math.random() * 9);
    const request = {
      username,
      service: Service_Name.ROUTING,
      methodGroup: Method_Group.PLAN,
      points,
      operationId: randomUUID() as string,
    };
    const granted = await pick(clients)
      .acquireQuota(request)
      .catch(() => undefined);
    const leaseId = granted?.lease?.leaseId;
    if (leaseId === undefined) return;
    running.set(username, (running.get(username) ?? 0) + 1);
    peaks.set(username, Math.max(peaks.get(username) ?? 0, running.get(username) ?? 0));
    // Sometimes the answer was lost, and the same is asked again of another server.
    if (Math.random() < 0.2)
      await pick(clients)
        .acquireQuota(request)
        .catch(() => undefined);
    if (Math.random() < 0.2)
      await pick(clients)
        .renewLease({ leaseId })
        .catch(() => undefined);
    running.set(username, (running.get(username) ?? 0) - 1);
    const isReleased = Math.random() < 0.2;
    const end = () =>
      isReleased
        ? pick(clients).releaseLease({ leaseId })
        : pick(clients).settleLease({ leaseId, points: Math.max(0, points - 2), pointKeys: [BigInt(points)] });
    // An end that was not acknowledged is told again until it is.
    const told = () =>
      end().then(
        () => true,
        () => false,
      );
    await expect.poll(told, { interval: 20, timeout: 30_000 }).toBe(true);
    if (Math.random() < 0.1) await told();
  }

  async function load(total: number, callers: number): Promise<Map<string, number>> {
    const running = new Map<string, number>();
    const peaks = new Map<string, number>();
    let left = total;
    const caller = async () => {
      while ((left -= 1) >= 0) await operation(running, peaks);
    };
    await Promise.all(Array.from({ length: callers }, caller));
    return peaks;
  }

  /** What Redis, the ledger and the statistics say of each user's points. */
  async function books() {
    const database = (servers[0] as TestApp).database;
    return Promise.all(
      usernames.map(async (username) => {
        const { usages } = await pick(clients).getQuotaUsage({ username });
        const [, day, window, slots] = usages[0]?.limits ?? [];
        const [ledger] = await database("lease")
          .where({ username })
          .select(database.raw("coalesce(sum(settled_points) filter (where state = 2), 0)::bigint as points"))
          .select(database.raw("count(*) filter (where state = 2) as requests"));
        const statistics = await database("usage_day").where({ username }).first("points", "requests");
        return {
          username,
          redis: { day: day?.used, window: window?.used, reserved: day?.reserved, running: slots?.reserved },
          ledger,
          statistics: statistics ?? { points: 0, requests: 0 },
        };
      }),
    );
  }

  async function agree(): Promise<void> {
    for (const server of servers) await expect.poll(() => server.database("lease").where({ state: 0 })).toEqual([]);
    for (const { redis: counters, ledger, statistics } of await books()) {
      expect(statistics).toEqual(ledger);
      const { points } = ledger as unknown as { points: number };
      expect(counters).toEqual({ day: points, window: points, reserved: 0, running: 0 });
      expect(points).toBeLessThanOrEqual(limits.points_per_day);
    }
  }

  test("mixed calls of many callers: no limit is passed, and all books agree to the point", async () => {
    const peaks = await load(3000, 32);
    for (const peak of peaks.values()) expect(peak).toBeLessThanOrEqual(limits.max_concurrent_execution);
    await agree();
  });

  test("the same while Redis loses everything, again and again", async () => {
    const progress = { isOver: false };
    const running = load(3000, 32).then((peaks) => {
      progress.isOver = true;
      return peaks;
    });
    let losses = 0;
    while (!progress.isOver) {
      await redis.restart();
      losses += 1;
      // Some decisions between two losses: how many, the load says.
      const before = (servers[0] as TestApp).log.length;
      await expect
        .poll(() => progress.isOver || (servers[0] as TestApp).log.length > before + 200, { timeout: 15_000 })
        .toBe(true);
    }
    const peaks = await running;
    expect(losses).toBeGreaterThan(3);
    for (const peak of peaks.values()) expect(peak).toBeLessThanOrEqual(limits.max_concurrent_execution);
    await agree();
  }, 60_000);
});
