import { afterAll, beforeAll, expect, test } from "vitest";
import { type Json, startTestApp, type TestApp } from "../../support/app.ts";

let app: TestApp;
beforeAll(async () => {
  app = await startTestApp();
});
afterAll(() => app.stop());

const call = (method: string, path: string, body?: Json) => app.http(method, path, { token: app.admin, body });
const quota = (points_per_day: number, method_group = "PLAN", service = "UNIVERSAL") => ({
  services: [{ service, methods: [{ method_group, points_per_day }] }],
});

const limited = (limits: Json) => ({
  services: [{ service: "ROUTING", methods: [{ method_group: "PLAN", ...limits }] }],
});
/** The body that GET returns for `quota(...)`. */
const stored = (points_per_day: number, method_group = "PLAN", service = "UNIVERSAL") => ({
  services: [{ service, methods: [{ ...unlimited, method_group, points_per_day }] }],
});
/** The limits of a method group whose limits are all absent. */
const unlimited = {
  points_per_request: 1_000_000,
  points_per_day: 100_000_000,
  points_per_date_window: null,
  max_concurrent_execution: null,
};

test("returns the quotas of the specification unchanged", async () => {
  const username = await app.user();
  const body = {
    services: [
      {
        service: "UNIVERSAL",
        methods: [
          {
            method_group: "PLAN",
            points_per_request: 15,
            points_per_day: 1500,
            points_per_date_window: 1500,
            max_concurrent_execution: 5,
          },
        ],
      },
    ],
  };
  const set = await call("PUT", `/admin/quotas/${username}`, body);
  expect([set.status, set.body]).toEqual([204, ""]);
  expect((await call("GET", `/admin/quotas/${username}`)).body).toEqual({ base: body, additional: [] });
});

test("absent points default to their maximum, an absent or null window or concurrency is unlimited, and 0 stays 0", async () => {
  const username = await app.user();
  const methods = [
    { method_group: "ROUTE" },
    { method_group: "PLAN", points_per_date_window: null, max_concurrent_execution: null },
    { method_group: "MATRIX", points_per_request: 0, points_per_day: 0, max_concurrent_execution: 0 },
    {
      method_group: "PACK",
      points_per_request: 1_000_000,
      points_per_day: 100_000_000,
      points_per_date_window: 100_000_000,
      max_concurrent_execution: 1000,
    },
  ];
  await call("PUT", `/admin/quotas/${username}`, { services: [{ service: "ROUTING", methods }] });
  const { body } = await call("GET", `/admin/quotas/${username}`);
  expect(body.base.services[0].methods).toEqual(methods.map((method) => ({ ...unlimited, ...method })));
});

test("the singular path /admin/quota serves the same quotas as /admin/quotas", async () => {
  const username = await app.user();
  expect((await call("PUT", `/admin/quota/${username}`, quota(7))).status).toBe(204);
  expect((await call("PUT", `/admin/quota/${username}?from=2026-01-01&to=2026-01-02`, quota(8))).status).toBe(204);
  const [singular, plural] = await Promise.all([
    call("GET", `/admin/quota/${username}`),
    call("GET", `/admin/quotas/${username}`),
  ]);
  expect(singular.body).toEqual(plural.body);
  expect(singular.body.additional).toHaveLength(1);
  expect((await call("DELETE", `/admin/quota/${username}`)).status).toBe(204);
  expect((await call("GET", `/admin/quotas/${username}`)).body).toEqual({ base: { services: [] }, additional: [] });
});

test("PUT replaces the base or one period as a whole, and leaves the others unchanged", async () => {
  const username = await app.user();
  const path = `/admin/quotas/${username}`;
  await call("PUT", path, { services: [...quota(1).services, ...quota(2, "ROUTE", "ROUTING").services] });
  await call("PUT", `${path}?from=2026-03-01&to=2026-04-01`, quota(3));
  await call("PUT", `${path}?from=2026-01-01&to=2026-02-01`, quota(4));
  await call("PUT", path, quota(5));
  await call("PUT", `${path}?from=2026-03-01&to=2026-04-01`, quota(6, "MATRIX"));
  expect((await call("GET", path)).body).toEqual({
    base: stored(5),
    additional: [
      { ...stored(4), from: "2026-01-01", to: "2026-02-01" },
      { ...stored(6, "MATRIX"), from: "2026-03-01", to: "2026-04-01" },
    ],
  });
});

test("DELETE removes one period, or all quotas of the user", async () => {
  const username = await app.user();
  const path = `/admin/quotas/${username}`;
  await call("PUT", path, quota(1));
  await call("PUT", `${path}?from=2026-01-01&to=2026-02-01`, quota(2));
  await call("PUT", `${path}?from=2026-02-01&to=2026-03-01`, quota(3));
  expect((await call("DELETE", `${path}?from=2026-01-01&to=2026-02-01`)).status).toBe(204);
  expect((await call("GET", path)).body.additional.map(({ from }: Json) => from)).toEqual(["2026-02-01"]);
  const missing = await call("DELETE", `${path}?from=2026-01-01&to=2026-02-01`);
  expect([missing.status, missing.body.resource_id]).toEqual([404, "2026-01-01..2026-02-01"]);
  expect((await call("DELETE", path)).status).toBe(204);
  expect((await call("GET", path)).body).toEqual({ base: { services: [] }, additional: [] });
});

test("refuses a quota whose period overlaps another of the same service and method group, and changes nothing", async () => {
  const username = await app.user();
  const path = `/admin/quotas/${username}`;
  await call("PUT", `${path}?from=2026-01-10&to=2026-01-20`, quota(1));
  const both = { services: [...quota(2, "ROUTE", "ROUTING").services, ...quota(2).services] };
  const overlapping = await call("PUT", `${path}?from=2026-01-19&to=2026-01-25`, both);
  expect(overlapping.status).toBe(409);
  expect((await call("GET", path)).body.additional).toEqual([{ ...stored(1), from: "2026-01-10", to: "2026-01-20" }]);
  // The day `to` is not in the period. Quotas of other method groups may overlap.
  expect((await call("PUT", `${path}?from=2026-01-20&to=2026-01-25`, quota(3))).status).toBe(204);
  expect((await call("PUT", `${path}?from=2026-01-12&to=2026-01-13`, quota(3, "ROUTE"))).status).toBe(204);
});

test("accepts one of 9 overlapping periods that are set concurrently", async () => {
  const username = await app.user();
  const path = `/admin/quotas/${username}`;
  const set = (day: number) => call("PUT", `${path}?from=2026-05-0${day}&to=2026-06-01`, quota(day));
  const statuses = (await Promise.all([1, 2, 3, 4, 5, 6, 7, 8, 9].map((day) => set(day)))).map(({ status }) => status);
  expect(statuses.toSorted()).toEqual([204, ...Array.from({ length: 8 }, () => 409)]);
  expect((await call("GET", path)).body.additional.length).toBe(1);
});

test.each<[string, Json, string]>([
  ["", { services: [] }, "services"],
  ["", {}, "services"],
  ["", quota(-1), "services[0].methods[0].points_per_day"],
  ["", quota(1.5), "services[0].methods[0].points_per_day"],
  ["", quota(100_000_001), "services[0].methods[0].points_per_day"],
  ["", limited({ points_per_request: 1_000_001 }), "services[0].methods[0].points_per_request"],
  ["", limited({ points_per_date_window: 100_000_001 }), "services[0].methods[0].points_per_date_window"],
  ["", limited({ max_concurrent_execution: 1001 }), "services[0].methods[0].max_concurrent_execution"],
  ["", { services: [{ service: "ROUTING", methods: [] }] }, "services[0].methods"],
  ["", quota(1, "NOPE"), "services[0].methods[0].method_group"],
  ["", quota(1, "UNSPECIFIED"), "services[0].methods[0].method_group"],
  ["", { services: [{ service: "ROUTING" }] }, "services[0].methods"],
  ["", { services: [{ methods: [] }] }, "services[0].service"],
  ["", { services: [...quota(1).services, ...quota(2).services] }, "services"],
  [
    "",
    { services: [{ service: "ROUTING", methods: [{ method_group: "PLAN" }, { method_group: "PLAN" }] }] },
    "services[0].methods",
  ],
  [
    "",
    { services: [{ service: "ROUTING", methods: [{ method_group: "PLAN", point_per_day: 1 }] }] },
    "services[0].methods[0].point_per_day",
  ],
  ["?from=2026-01-01", quota(1), "to"],
  ["?to=2026-01-01", quota(1), "from"],
  ["?from=2026-02-01&to=2026-02-01", quota(1), "to"],
  ["?from=2026-02-01&to=2026-01-01", quota(1), "to"],
  ["?from=2026-02-30&to=2026-03-05", quota(1), "from"],
  ["?from=0000-01-01&to=2026-03-05", quota(1), "from"],
  ["?from=yesterday&to=2026-03-05", quota(1), "from"],
  ["?from=2026-01-01T00:00:00Z&to=2026-03-05", quota(1), "from"],
])("refuses %s %o and names the field %s", async (query, body, field) => {
  const username = await app.user();
  const answer = await call("PUT", `/admin/quotas/${username}${query}`, body);
  expect([answer.status, answer.body.validations?.[0]?.field]).toEqual([400, field]);
  expect((await call("GET", `/admin/quotas/${username}`)).body).toEqual({ base: { services: [] }, additional: [] });
});

test.each(["PUT", "GET", "DELETE"])("%s answers 404 when the user does not exist", async (method) => {
  const answer = await call(method, "/admin/quotas/missing_user", method === "PUT" ? quota(1) : undefined);
  expect([answer.status, answer.body.resource_id]).toEqual([404, "missing_user"]);
});
