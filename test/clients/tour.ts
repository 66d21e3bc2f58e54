/** The tour of the README with a client generated from gen/openapi.yaml. Environment variables hold the settings. */
import createClient from "openapi-fetch";
import type { paths } from "./generated/openapi-fetch";

const { TOLLGATE_URL = "", USERNAME = "", PASSWORD = "", TIMEZONE = "0" } = process.env;
// Some answers have other media types too.
const client = createClient<paths, "application/json">({ baseUrl: TOLLGATE_URL });

const login = await client.POST("/admin/token/generation", { body: { username: USERNAME, password: PASSWORD } });
if (login.data === undefined) throw new Error(login.error.message);
const authorization = `Bearer ${login.data.token}`;
client.use({
  onRequest: ({ request }) => {
    request.headers.set("authorization", authorization);
    return request;
  },
});
const validation = await client.POST("/admin/token/validation", { body: { token: login.data.token } });
console.log("token", validation.data?.username, validation.data?.roles);

const company = await client.POST("/admin/companies", { body: { key: "acme" } });
console.log("company", company.data?.key, company.data?.detail);

const user = await client.POST("/admin/users", {
  body: { username: "anna", company_key: "acme", roles: ["USER"], timezone: Number(TIMEZONE) },
});
console.log("user", user.data?.username, user.data?.enabled, user.data?.roles);

const anna = { params: { path: { username: "anna" } } };
const set = await client.PUT("/admin/quotas/{username}", {
  ...anna,
  body: { services: [{ service: "UNIVERSAL", methods: [{ method_group: "PLAN", points_per_day: 1500 }] }] },
});
console.log("quota set", set.response.status);
const quotas = await client.GET("/admin/quotas/{username}", anna);
for (const { service, methods } of quotas.data?.base?.services ?? []) {
  for (const { method_group, points_per_day } of methods) console.log("quota", service, method_group, points_per_day);
}

const calculation = { username: "anna", service: "UNIVERSAL", method_group: "PLAN" } as const;
const acquired = await client.POST("/quota/leases", {
  body: { ...calculation, points: 300, operation_id: "11111111-2222-3333-4444-555555555555" },
});
const lease = acquired.data?.lease;
if (lease === undefined) throw new Error(acquired.error?.message ?? "no lease");
console.log("acquired", lease.points, lease.state);

const settled = await client.POST("/quota/leases/{lease_id}:settle", {
  params: { path: { lease_id: lease.lease_id } },
  body: { points: 250, operation: "run_plan_calculation", duration: "PT2S", outcome: "SUCCESS" },
});
console.log("settled", settled.data?.lease?.state);

const refused = await client.POST("/quota/leases", {
  body: { ...calculation, points: 2000, operation_id: "11111111-2222-3333-4444-666666666666" },
});
console.log("refused", refused.response.status, refused.error?.reason, refused.error?.message);

const usage = await client.GET("/quota/usage/{username}", anna);
for (const { limits } of usage.data?.usages ?? []) {
  for (const { name, limit, used, reserved, remaining } of limits) {
    if (name === "POINTS_PER_DAY") console.log("usage", name, { limit, used, reserved, remaining });
  }
}

const statistics = await client.GET("/admin/statistics", {
  params: { query: { username: "anna", from: "2020-01-01", to: "9999-12-31" } },
});
for (const { username, dates } of statistics.data?.users ?? []) {
  for (const { services } of dates) console.log("statistics", username, JSON.stringify(services));
}

const audit = await client.GET("/admin/audit", {
  params: { query: { username: "anna", operation_id: "run_plan_calculation", from: "2020-01-01T00:00:00Z" } },
});
for (const { tracedata, method_group, statistics: took } of audit.data?.actions ?? []) {
  console.log("audit", tracedata.service, method_group, tracedata.operation, took.points_count, took.duration);
}

const held = await client.DELETE("/admin/companies/{key}", { params: { path: { key: "acme" } } });
console.log("refused", held.response.status, held.error !== undefined && "reason" in held.error && held.error.reason);

const noQuotas = await client.DELETE("/admin/quotas/{username}", anna);
const noUser = await client.DELETE("/admin/users/{username}", anna);
const gone = await client.GET("/admin/users/{username}", anna);
console.log("deleted", noQuotas.response.status, noUser.response.status, gone.response.status);
