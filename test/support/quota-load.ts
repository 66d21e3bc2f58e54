import { randomUUID } from "node:crypto";
import { type Client, Code, ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { expect } from "vitest";
import { type AcquireQuotaResponse, QuotaService } from "#gen/tollgate/v1/lease_pb.js";
import { Method_Group, Service_Name } from "#gen/tollgate/v1/tracedata_pb.js";
import type { Database } from "../../src/postgres/database.ts";
import { verifyUsage } from "../../src/quotas/ledger/verify.ts";
import { createTestDatabase, type TestDatabase } from "./database.ts";
import { startProcess } from "./process.ts";

export interface LoadSize {
  readonly operations: number;
  readonly callers: number;
  readonly users: number;
}

/** Two server processes on one Redis and one PostgreSQL, and planners that call both. */
export interface QuotaLoad {
  readonly limits: { points_per_day: number; points_per_date_window: number; max_concurrent_execution: number };
  /** The number of operations that have ended, with any outcome. */
  done(): number;
  /** Runs all operations and returns the maximum that any user had running at once, as the callers saw it. */
  run(): Promise<number>;
  /** Waits until every lease has ended in the ledger, then compares Redis, ledger and statistics of each user. */
  expectUsageAgrees(): Promise<{ granted: number; degraded: number; maxPoints: number }>;
  stop(): Promise<void>;
}

const password = "first administrator";

/** @param opened the database of the servers. Default: one of its own */
export async function startQuotaLoad(
  size: LoadSize,
  settings: Record<string, string>,
  opened?: TestDatabase,
): Promise<QuotaLoad> {
  const { url, database, drop } = opened ?? (await createTestDatabase());
  const environment = {
    DATABASE_URL: url,
    TOKEN_KEYS: "a-secret-for-tests-that-is-long-enough",
    ADMIN_PASSWORD: password,
    LOG_LEVEL: "error",
    ...settings,
  };
  const first = await startProcess(environment);
  const servers = [first, await startProcess(environment)];
  // A third of the operations exceeds the points of the day.
  const perDay = Math.ceil((2 * size.operations) / size.users);
  const limits = { points_per_day: perDay, points_per_date_window: perDay * 10, max_concurrent_execution: 3 };
  const { token, usernames } = await createUsers(first.url, size.users, limits);
  const clients = servers.map((server) => createPlanner(server.url, token));
  const progress = { done: 0 };

  return {
    limits,
    done: () => progress.done,
    async run() {
      const running = new Map<string, number>();
      let maxRunning = 0;
      let left = size.operations;
      const hold = (username: string, change: number) => {
        const now = (running.get(username) ?? 0) + change;
        running.set(username, now);
        maxRunning = Math.max(maxRunning, now);
      };
      const caller = async () => {
        while ((left -= 1) >= 0) {
          await operation(clients, pick(usernames), hold);
          progress.done += 1;
        }
      };
      await Promise.all(Array.from({ length: size.callers }, caller));
      return maxRunning;
    },
    async expectUsageAgrees() {
      await expect.poll(() => database("lease").where({ state: 0 }), { timeout: 10_000 }).toEqual([]);
      const usages = await Promise.all(usernames.map((username) => readUsage(database, pick(clients), username)));
      for (const { counters, ledger, statistics } of usages) {
        expect(statistics).toEqual({ points: ledger.points, requests: ledger.requests });
        expect(counters).toEqual({ day: ledger.points, window: ledger.points, reserved: 0, running: 0 });
      }
      const today = new Date().toISOString().slice(0, 10);
      const { differences } = await verifyUsage(database, { from: "2000-01-01", to: "9999-12-31", today });
      expect(differences).toEqual([]);
      const sum = (values: readonly number[]) => values.reduce((total, value) => total + value, 0);
      return {
        granted: sum(usages.map(({ ledger }) => ledger.leases)),
        degraded: sum(usages.map(({ ledger }) => ledger.degraded)),
        maxPoints: Math.max(...usages.map(({ ledger }) => ledger.points)),
      };
    },
    async stop() {
      await Promise.all(servers.map((server) => server.end()));
      await drop();
    },
  };
}

function createPlanner(baseUrl: string, token: string): Client<typeof QuotaService> {
  const transport = createGrpcTransport({
    baseUrl,
    interceptors: [
      (next) => (request) => {
        request.header.set("authorization", `Bearer ${token}`);
        return next(request);
      },
    ],
  });
  return createClient(QuotaService, transport);
}

/** Creates users of one company with these limits, and returns their names and a token of a service. */
async function createUsers(url: string, count: number, limits: object) {
  const call = async (method: string, path: string, token: string, body: object) => {
    const headers = { "content-type": "application/json", ...(token !== "" && { authorization: `Bearer ${token}` }) };
    const response = await fetch(`${url}${path}`, { method, headers, body: JSON.stringify(body) });
    const text = await response.text();
    if (!response.ok) throw new Error(`${path}: ${response.status} ${text}`);
    return text === "" ? {} : JSON.parse(text);
  };
  const login = async (username: string) =>
    (await call("POST", "/admin/token/generation", "", { username, password })).token as string;
  const admin = await login("admin");
  await call("POST", "/admin/companies", admin, { key: "company_1" });
  const create = (username: string, roles: readonly string[]) =>
    call("POST", "/admin/users", admin, { username, password, company_key: "company_1", roles });
  await create("planner", ["BOT"]);
  const usernames = Array.from({ length: count }, (_none, index) => `user_${index}`);
  const services = [{ service: "ROUTING", methods: [{ method_group: "PLAN", ...limits }] }];
  for (const username of usernames) {
    await create(username, []);
    await call("PUT", `/admin/quotas/${username}`, admin, { services });
  }
  return { token: await login("planner"), usernames };
}

/** Runs one operation as a planner with an unreliable network does. */
async function operation(
  clients: readonly Client<typeof QuotaService>[],
  username: string,
  hold: (username: string, change: number) => void,
): Promise<void> {
  const any = () => pick(clients);
  const points = 1 + Math.floor(Math.random() * 9);
  const request = {
    username,
    service: Service_Name.ROUTING,
    methodGroup: Method_Group.PLAN,
    points,
    operationId: randomUUID() as string,
  };
  const ignored = () => undefined;
  // An acquire without a response may have been granted: like the client library, retry the same operation.
  const granted: AcquireQuotaResponse[] = [];
  const acquire = () =>
    any()
      .acquireQuota(request)
      .then((answer) => {
        granted.push(answer);
        return true;
      })
      .catch((error: unknown) => ConnectError.from(error).code !== Code.Unavailable);
  await expect.poll(acquire, { interval: 20, timeout: 30_000 }).toBe(true);
  const leaseId = granted[0]?.lease?.leaseId;
  if (leaseId === undefined) return;
  hold(username, 1);
  // Repeat some acquires on another server, as after a lost response.
  if (Math.random() < 0.2) await any().acquireQuota(request).catch(ignored);
  if (Math.random() < 0.2) await any().renewLease({ leaseId }).catch(ignored);
  hold(username, -1);
  const isReleased = Math.random() < 0.2;
  const settled = { leaseId, points: Math.max(0, points - 2), pointKeys: [BigInt(points)] };
  const end = () => (isReleased ? any().releaseLease({ leaseId }) : any().settleLease(settled));
  // Retry an end until it is acknowledged.
  const reportEnd = () =>
    end().then(
      () => true,
      () => false,
    );
  await expect.poll(reportEnd, { interval: 20, timeout: 30_000 }).toBe(true);
  if (Math.random() < 0.1) await reportEnd();
}

interface LedgerSums {
  leases: number;
  degraded: number;
  points: number;
  requests: number;
}

async function readUsage(database: Database, client: Client<typeof QuotaService>, username: string) {
  const { usages } = await client.getQuotaUsage({ username });
  const [, day, window, slots] = usages[0]?.limits ?? [];
  const ledger = await database("lease")
    .where({ username })
    .first<LedgerSums>(
      database.raw(`coalesce(sum(settled_points) filter (where state = 2), 0)::bigint as points,
        count(*) filter (where state = 2) as requests, count(*) as leases, count(*) filter (where degraded) as degraded`),
    );
  const statistics = await database("usage_with_pending").where({ username }).first("points", "requests");
  return {
    counters: { day: day?.used, window: window?.used, reserved: day?.reserved, running: slots?.reserved },
    ledger,
    statistics: statistics ?? { points: 0, requests: 0 },
  };
}

function pick<Item>(items: readonly Item[]): Item {
  return items[Math.floor(Math.random() * items.length)] as Item;
}
