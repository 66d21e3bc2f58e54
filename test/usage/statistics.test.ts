import { randomUUID } from "node:crypto";
import { createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { afterAll, beforeAll, expect, test } from "vitest";
import { QuotaService } from "#gen/tollgate/v1/lease_pb.js";
import { StatisticsService } from "#gen/tollgate/v1/statistics_pb.js";
import { Method_Group, Service_Name } from "#gen/tollgate/v1/tracedata_pb.js";
import { type Json, startTestApp, type TestApp } from "../support/app.ts";

let app: TestApp;
/** The app's clock. */
let nowMs = 0;
beforeAll(async () => {
  app = await startTestApp({ QUOTA_DEFAULT: "unlimited" });
  nowMs = Date.now();
});
afterAll(() => app.stop());

function moveTo(timeMs: number): void {
  app.advance(timeMs - nowMs);
  nowMs = timeMs;
}

interface Use {
  readonly username: string;
  readonly date: string;
  readonly service?: number;
  readonly method?: number;
  readonly points?: number;
}

/** Inserts usage as the ledger writes it. */
async function use({ username, date, service = 2, method = 3, points = 1 }: Use): Promise<void> {
  const { id, company_key } = await app.database("user_account").where({ username }).first("id", "company_key");
  await app.database("usage_day").insert({
    date,
    user_id: id,
    service,
    method_group: method,
    username,
    company_key,
    requests: 1,
    points,
    unique_points: points,
  });
}

const get = (query: string, token = app.admin) => app.http("GET", `/admin/statistics?${query}`, { token });

/** Returns the days with usage by username. */
async function days(query: string, token?: string): Promise<Record<string, string[]>> {
  const { status, body } = await get(query, token);
  expect(status).toBe(200);
  return Object.fromEntries(
    body.users.map(({ username, dates }: Json) => [username, dates.map(({ date }: Json) => date)]),
  );
}

test("lists settled usage by day, service and method group", async () => {
  const username = await app.user({ timezone: 3 });
  const headers = { authorization: `Bearer ${await app.token(await app.user({ roles: ["BOT"] }))}` };
  const client = createClient(QuotaService, createGrpcTransport({ baseUrl: app.url }));
  const settle = async (service: Service_Name, methodGroup: Method_Group, pointKeys: bigint[]) => {
    const request = { username, service, methodGroup, points: pointKeys.length, operationId: randomUUID() };
    const { lease } = await client.acquireQuota(request, { headers });
    const leaseId = lease?.leaseId ?? "";
    await client.settleLease({ leaseId, points: pointKeys.length, pointKeys }, { headers });
  };
  await settle(Service_Name.ROUTING, Method_Group.MATRIX, [1n, 2n]);
  await settle(Service_Name.ROUTING, Method_Group.PLAN, [1n, 2n, 3n]);
  await settle(Service_Name.ROUTING, Method_Group.PLAN, [3n, 4n]);
  await settle(Service_Name.UNIVERSAL, Method_Group.PLAN, [1n]);
  const today = new Date(nowMs + 3 * 3_600_000).toISOString().slice(0, 10);
  const { body } = await get(`username=${username}&from=${today}&to=9999-12-31`);
  const method = (method_group: string, unique: number, points: number) => ({
    method_group,
    unique_points_per_day: unique,
    points_per_day: points,
  });
  expect(body).toEqual({
    users: [
      {
        username,
        dates: [
          {
            date: today,
            services: [
              { service: "UNIVERSAL", methods: [method("PLAN", 1, 1)] },
              { service: "ROUTING", methods: [method("PLAN", 4, 5), method("MATRIX", 2, 2)] },
            ],
          },
        ],
      },
    ],
  });
});

test("a company sees the usage within it, and a user no usage of a deleted user of the same name", async () => {
  const [company_key, otherCompany] = [await app.company(), await app.company()];
  const username = await app.user({ company_key, username: "namesake" });
  await use({ username, date: "2030-05-01", points: 7 });
  await app.http("DELETE", `/admin/users/${username}`, { token: app.admin });
  await app.user({ company_key: otherCompany, username: "namesake", roles: ["USER"] });
  await use({ username, date: "2030-05-02", points: 8 });

  const period = "from=2030-05-01&to=2030-06-01";
  expect(await days(`${period}&username=namesake`, await app.token("namesake"))).toEqual({ namesake: ["2030-05-02"] });
  const partner = await app.token(await app.user({ company_key, roles: ["PARTNER"] }));
  expect(await days(period, partner)).toEqual({ namesake: ["2030-05-01"] });
  const { body } = await get(`${period}&username=namesake`);
  expect(body.users.map(({ dates }: Json) => dates.map(({ date }: Json) => date))).toEqual([
    ["2030-05-01"],
    ["2030-05-02"],
  ]);
  const outsider = await app.token(await app.user({ roles: ["USER"] }));
  expect(await days(`${period}&username=namesake`, outsider)).toEqual({});
});

test("splits the day of a user who changes company between both companies, and shows the user one day", async () => {
  const [before, after] = [await app.company(), await app.company()];
  const username = await app.user({ company_key: before, roles: ["USER"], timezone: 0 });
  const headers = { authorization: `Bearer ${await app.token(await app.user({ roles: ["BOT"] }))}` };
  const client = createClient(QuotaService, createGrpcTransport({ baseUrl: app.url }));
  const acquire = async () => {
    const request = { username, service: Service_Name.ROUTING, methodGroup: Method_Group.PLAN, points: 10 };
    const { lease } = await client.acquireQuota({ ...request, operationId: randomUUID() }, { headers });
    return lease?.leaseId ?? "";
  };
  const settle = (leaseId: string, points: number, pointKeys: bigint[]) =>
    client.settleLease({ leaseId, points, pointKeys }, { headers });
  await settle(await acquire(), 10, [1n, 2n]);
  const begun = await acquire();
  const body = { username, company_key: after, enabled: true, roles: ["USER"], timezone: 0 };
  expect(await app.http("PUT", "/admin/users", { token: app.admin, body })).toMatchObject({ status: 200 });
  await settle(begun, 5, [1n]);
  await settle(await acquire(), 500, [2n, 3n]);

  const today = new Date(nowMs).toISOString().slice(0, 10);
  const ofDay = async (token: string) => {
    const answer = await get(`username=${username}&from=${today}&to=9999-12-31`, token);
    return answer.body.users.flatMap(({ dates }: Json) => dates.flatMap(({ services }: Json) => services));
  };
  const partner = async (company_key: string) => app.token(await app.user({ company_key, roles: ["PARTNER"] }));
  const used = (points: number, unique: number) => [
    {
      service: "ROUTING",
      methods: [{ method_group: "PLAN", points_per_day: points, unique_points_per_day: unique }],
    },
  ];
  // A calculation belongs to the company in which it began.
  expect(await ofDay(await partner(before))).toEqual(used(15, 2));
  expect(await ofDay(await partner(after))).toEqual(used(500, 1));
  expect(await ofDay(await app.token(username))).toEqual(used(515, 3));
  expect(await ofDay(app.admin)).toEqual(used(515, 3));
});

test.each<[string, string]>([
  ["from=2030-02-30", "from"],
  ["to=tomorrow", "to"],
  ["from=2030-02-02&to=2030-02-01", "to"],
  ["from=2999-01-01", "from"],
  ["to=2020-01-01", "to"],
  ["username=a", "username"],
  ["sort_field=date", "sort_field"],
])("refuses %s and names the field %s", async (query, field) => {
  const { status, body } = await get(query);
  expect([status, body.validations?.[0]?.field]).toEqual([400, field]);
});

test("returns many users completely and in order over many pages", async () => {
  const company_key = await app.company();
  await app.database.raw(
    `insert into usage_day (date, user_id, service, method_group, username, company_key, requests, points, unique_points)
     select date '2029-01-01' + day, 1000000 + person, 2, 3, 'person_' || lpad(person::text, 4, '0'), ?, 1, day, day
     from generate_series(0, 29) as day, generate_series(0, 499) as person`,
    [company_key],
  );
  const headers = { authorization: `Bearer ${await app.token(await app.user({ company_key, roles: ["PARTNER"] }))}` };
  const client = createClient(StatisticsService, createGrpcTransport({ baseUrl: app.url }));
  const users: { username: string; days: number; points: bigint }[] = [];
  let pages = 0;
  for await (const page of client.readStatistics({ from: "2029-01-01", to: "2030-01-01" }, { headers })) {
    pages += 1;
    for (const { username, dates } of page.users) {
      const points = dates.map(({ services }) => services[0]?.methods[0]?.pointsPerDay ?? -1n);
      users.push({ username, days: dates.length, points: points.reduce((sum, value) => sum + value, 0n) });
    }
  }
  expect(pages).toBeGreaterThan(10);
  expect(users).toEqual(
    Array.from({ length: 500 }, (_none, person) => ({
      username: `person_${String(person).padStart(4, "0")}`,
      days: 30,
      points: 435n,
    })),
  );
});

test("covers from..to with `to` excluded; defaults to the user's month and ends before the user's day", async () => {
  const company_key = await app.company();
  const [west, east] = [await app.user({ company_key, timezone: -12 }), await app.user({ company_key, timezone: 12 })];
  const partner = await app.user({ company_key, roles: ["PARTNER"] });
  // A token does not last for years.
  const read = async (query: string) => days(query, await app.token(partner));
  const dates = ["2031-01-31", "2031-02-01", "2031-02-27", "2031-02-28", "2031-03-01", "2031-03-02"];
  for (const username of [west, east]) for (const date of dates) await use({ username, date });

  expect(await read("from=2031-02-01&to=2031-02-28")).toEqual({
    [west]: ["2031-02-01", "2031-02-27"],
    [east]: ["2031-02-01", "2031-02-27"],
  });
  // In the west it is still February 28; in the east March 1 ends at 12:00.
  moveTo(Date.UTC(2031, 2, 1, 11, 59));
  expect(await read("")).toEqual({ [west]: ["2031-02-01", "2031-02-27"] });
  moveTo(Date.UTC(2031, 2, 1, 12, 0));
  expect(await read("")).toEqual({ [east]: ["2031-03-01"] });
  expect(await read("from=2031-02-28")).toEqual({
    [west]: ["2031-02-28"],
    [east]: ["2031-02-28", "2031-03-01"],
  });
  expect(await read("to=2031-03-02")).toEqual({ [west]: ["2031-03-01"], [east]: ["2031-03-01"] });
});
