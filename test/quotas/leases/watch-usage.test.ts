import { randomUUID } from "node:crypto";
import { Code, ConnectError, createClient, type Transport } from "@connectrpc/connect";
import { createConnectTransport, createGrpcTransport, createGrpcWebTransport } from "@connectrpc/connect-node";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { RetryInfoSchema } from "#gen/google/rpc/error_details_pb.js";
import {
  LimitStanding_Name,
  QuotaService,
  type UserUsage,
  type WatchQuotaUsageResponse,
} from "#gen/tollgate/v1/lease_pb.js";
import { startTestApp, type TestApp } from "../../support/app.ts";
import { noOwnRedis, startRedis, type TestRedis } from "../../support/redis.ts";

interface Target {
  readonly username?: string;
  readonly companyKey?: string;
}

describe.skipIf(noOwnRedis !== "")("a watch of usage", () => {
  let redis: TestRedis;
  let app: TestApp;
  let otherApp: TestApp;
  let planner: string;
  beforeAll(async () => {
    redis = await startRedis();
    app = await startTestApp({ REDIS_URL: redis.url }, { movesRedis: true });
    otherApp = await startTestApp({ REDIS_URL: redis.url, DATABASE_URL: app.databaseUrl }, { movesRedis: true });
    planner = await app.token(await app.user({ roles: ["BOT"] }));
  });
  afterAll(async () => {
    await otherApp.stop();
    await app.stop();
    await redis.kill();
  });

  test("shows what another server reserves, settles and releases, with limits and the end of the window", async () => {
    const { username } = await makeUser();
    const watch = open(otherApp, { username });
    expect(standingOf(await watch.next(), username)).toMatchObject({
      used: 0,
      reserved: 0,
      limit: 100,
      remaining: 100,
    });
    const lease = await acquire(username, 30);
    const reserved = await watch.until((usages) => dayOf(usages)?.reserved === 30);
    expect(dayOf(reserved)).toMatchObject({ used: 0, remaining: 70 });
    await app.http("POST", `/quota/leases/${lease}:settle`, { token: planner, body: { points: 12 } });
    const settled = dayOf(await watch.until((usages) => dayOf(usages)?.used === 12));
    expect(settled).toMatchObject({ reserved: 0, remaining: 88 });
    expect(Number(settled?.resetTime?.seconds) % 86_400).toBe(0);
    await watch.close();
  });

  test.concurrent.each<[string, (options: { baseUrl: string }) => Transport]>([
    ["gRPC", (options) => createGrpcTransport(options)],
    ["gRPC-Web over HTTP/1.1", (options) => createGrpcWebTransport({ ...options, httpVersion: "1.1" })],
    ["gRPC-Web over HTTP/2", (options) => createGrpcWebTransport({ ...options, httpVersion: "2" })],
    ["Connect over HTTP/1.1", (options) => createConnectTransport({ ...options, httpVersion: "1.1" })],
    [
      "Connect in binary over HTTP/2",
      (options) => createConnectTransport({ ...options, httpVersion: "2", useBinaryFormat: true }),
    ],
  ])("streams by %s", async (_name, transportOf) => {
    const { username } = await makeUser();
    const watch = open(app, { username }, planner, transportOf({ baseUrl: app.url }));
    expect((await watch.next()).usages).toHaveLength(1);
    await acquire(username, 5);
    await watch.until((usages) => dayOf(usages)?.reserved === 5);
    await watch.close();
  });

  test("of a company has every user of it, and the quotas that are added and removed later", async () => {
    const company = await app.company();
    const [first, second] = [await makeUser({ company_key: company }), await makeUser({ company_key: company })];
    const { username: stranger } = await makeUser();
    const watch = open(app, { companyKey: company });
    const names = (await watch.next()).usages.map(({ username }) => username);
    expect(names.toSorted()).toEqual([first.username, second.username].toSorted());
    await acquire(stranger, 5);
    await app.http("DELETE", `/admin/quotas/${first.username}`, { token: app.admin });
    const removed = await watch.until((usages) => usages.length > 0);
    expect(removed.map(({ username, limits }) => [username, limits.length])).toEqual([[first.username, 0]]);
    await app.setLimits(first.username, { points_per_day: 100 });
    const added = await watch.until((usages) => usages.length > 0);
    expect(added.map(({ username }) => username)).toEqual([first.username]);
    // The user leaves the company.
    await patch(second.username, { company_key: await app.company() });
    const left = await watch.until((usages) => usages.length > 0);
    expect(left.map(({ username, limits }) => [username, limits.length])).toEqual([[second.username, 0]]);
    await watch.close();
  });

  test("is for oneself, a partner's own company, and for ADMIN and BOT everything", async () => {
    const company = await app.company();
    const otherCompany = await app.company();
    const { username: colleague } = await makeUser({ company_key: company });
    const { username: stranger } = await makeUser({ company_key: otherCompany });
    const expected = {
      USER: [undefined, Code.NotFound, Code.NotFound, Code.NotFound, Code.NotFound],
      PARTNER: [undefined, undefined, Code.NotFound, undefined, Code.NotFound],
      BOT: [undefined, undefined, undefined, undefined, undefined],
      ADMIN: [undefined, undefined, undefined, undefined, undefined],
      none: Array.from({ length: 5 }, () => Code.PermissionDenied),
    };
    for (const [role, codes] of Object.entries(expected)) {
      const self = await app.user({ company_key: company, roles: role === "none" ? [] : [role] });
      const token = await app.token(self);
      const users = [self, colleague, stranger].map((username) => ({ username }));
      const targets = [...users, { companyKey: company }, { companyKey: otherCompany }];
      const found = await Promise.all(targets.map((target) => codeOfFirst(open(app, target, token))));
      expect([role, found]).toEqual([role, codes]);
    }
    for (const target of [{ username: "missing" }, { companyKey: "missing" }]) {
      expect(await codeOfFirst(open(app, target, app.admin))).toBe(Code.NotFound);
    }
    expect(await codeOfFirst(open(app, {}, app.admin))).toBe(Code.InvalidArgument);
    expect(await codeOfFirst(open(app, { username: "x" }, app.admin))).toBe(Code.InvalidArgument);
  });

  test.concurrent.each<[string, (world: World) => Promise<unknown>, Code]>([
    ["the caller is blocked", ({ partner }) => patch(partner, { enabled: false }), Code.Unauthenticated],
    [
      "the caller's password is changed",
      ({ partner }) => patch(partner, { password: "another one" }),
      Code.Unauthenticated,
    ],
    ["the caller loses the role", ({ partner }) => patch(partner, { roles: [] }), Code.PermissionDenied],
    ["the caller is a mere USER now", ({ partner }) => patch(partner, { roles: ["USER"] }), Code.NotFound],
    ["the caller moves", async ({ partner }) => patch(partner, { company_key: await app.company() }), Code.NotFound],
    ["the caller is deleted", ({ partner }) => remove(partner), Code.Unauthenticated],
    ["the user moves", async ({ username }) => patch(username, { company_key: await app.company() }), Code.NotFound],
    ["the user is deleted", ({ username }) => remove(username), Code.NotFound],
  ])("ends when %s, on the other server too", async (what, change, code) => {
    const company = await app.company();
    const { username } = await makeUser({ company_key: company });
    const partner = await app.user({ company_key: company, roles: ["PARTNER"] });
    const targets = what.startsWith("the caller") ? [{ username }, { companyKey: company }] : [{ username }];
    const token = await app.token(partner);
    const watches = targets.map((target) => open(otherApp, target, token));
    for (const watch of watches) await watch.next();
    await change({ username, partner });
    for (const watch of watches) expect(await watch.end()).toMatchObject({ code });
  });

  test("begins again at zero at midnight of the user's time zone", async () => {
    // It is 22 o'clock there: tokens outlive the midnight.
    const ahead = 22 - new Date().getUTCHours();
    const timezone = ahead > 12 ? ahead - 24 : ahead;
    const { username } = await makeUser({ timezone });
    const lease = await acquire(username, 10);
    await app.http("POST", `/quota/leases/${lease}:settle`, { token: planner, body: { points: 10 } });
    const watch = open(otherApp, { username });
    const { resetTime, used } = standingOf(await watch.next(), username) ?? {};
    expect(used).toBe(10);
    const midnightMs = Number(resetTime?.seconds) * 1000;
    expect((midnightMs + timezone * 3_600_000) % 86_400_000).toBe(0);
    for (const server of [app, otherApp]) server.advance(midnightMs - Date.now() + 1000);
    const turned = dayOf(await watch.until((usages) => dayOf(usages)?.used === 0));
    expect(Number(turned?.resetTime?.seconds) * 1000).toBe(midnightMs + 86_400_000);
    await watch.close();
  });

  interface World {
    readonly username: string;
    readonly partner: string;
  }

  async function makeUser(fields: object = {}) {
    const username = await app.user(fields);
    await app.setLimits(username, { points_per_day: 100 });
    return { username };
  }

  async function acquire(username: string, points: number): Promise<string> {
    const body = { username, service: "ROUTING", method_group: "PLAN", points, operation_id: randomUUID() };
    const { status, body: answer } = await app.http("POST", "/quota/leases", { token: planner, body });
    expect(status).toBe(200);
    return answer.lease.lease_id;
  }

  async function patch(username: string, body: object): Promise<void> {
    expect((await app.http("PATCH", `/admin/users/${username}`, { token: app.admin, body })).status).toBe(200);
  }

  async function remove(username: string): Promise<void> {
    expect((await app.http("DELETE", `/admin/users/${username}`, { token: app.admin })).status).toBe(204);
  }

  function open(
    server: TestApp,
    target: Target,
    token = planner,
    transport = createGrpcTransport({ baseUrl: server.url }),
  ) {
    return openWatch(transport, target, token);
  }
});

test("the drain ends a watch with UNAVAILABLE and a delay for the retry, and does not wait for it", async () => {
  const app = await startTestApp({ DRAIN_MS: "60000" });
  const watch = openWatch(createGrpcTransport({ baseUrl: app.url }), { username: "admin" }, app.admin);
  await watch.next();
  const ending = watch.end();
  const startMs = performance.now();
  await app.stop();
  expect(performance.now() - startMs).toBeLessThan(30_000);
  const error = await ending;
  expect(error).toMatchObject({ code: Code.Unavailable });
  expect(error?.findDetails(RetryInfoSchema)).toHaveLength(1);
});

function openWatch(transport: Transport, target: Target, token: string) {
  const left = new AbortController();
  const { username, companyKey } = target;
  const subject =
    username !== undefined
      ? { case: "username" as const, value: username }
      : companyKey !== undefined
        ? { case: "companyKey" as const, value: companyKey }
        : { case: undefined };
  const headers = { authorization: `Bearer ${token}` };
  const messages = createClient(QuotaService, transport).watchQuotaUsage({ subject }, { headers, signal: left.signal });
  const iterator = messages[Symbol.asyncIterator]();
  const next = async (): Promise<WatchQuotaUsageResponse> => {
    const { value, done } = await iterator.next();
    if (done === true) throw new Error("the watch has ended");
    return value;
  };
  return {
    next,
    async until(isReached: (usages: readonly UserUsage[]) => boolean): Promise<readonly UserUsage[]> {
      for (;;) {
        const { usages } = await next();
        if (isReached(usages)) return usages;
      }
    },
    /** Reads until the watch fails, and returns the error. */
    async end(): Promise<ConnectError | undefined> {
      try {
        for (;;) await next();
      } catch (error) {
        return ConnectError.from(error);
      }
    },
    async close(): Promise<void> {
      const ended = iterator.next().catch(() => undefined);
      left.abort();
      await ended;
    },
  };
}

async function codeOfFirst(watch: ReturnType<typeof openWatch>): Promise<Code | undefined> {
  try {
    await watch.next();
  } catch (error) {
    return ConnectError.from(error).code;
  }
  await watch.close();
  return undefined;
}

function dayOf(usages: readonly UserUsage[]) {
  return usages.flatMap(({ limits }) => limits).find(({ name }) => name === LimitStanding_Name.POINTS_PER_DAY);
}

function standingOf({ usages }: WatchQuotaUsageResponse, username: string) {
  return dayOf(usages.filter((usage) => usage.username === username));
}
