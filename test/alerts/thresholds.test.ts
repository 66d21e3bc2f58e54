import { randomUUID } from "node:crypto";
import pg from "pg";
import { afterAll, beforeAll, expect, test } from "vitest";
import { startTestApp, type TestApp } from "../support/app.ts";

let app: TestApp;
let planner: string;
beforeAll(async () => {
  // Nothing listens there: the outbox keeps the alerts.
  const webhook = { WEBHOOK_URL: "http://127.0.0.1:9/", WEBHOOK_SECRET: `whsec_${"A".repeat(32)}` };
  app = await startTestApp({ ...webhook, ALERT_THRESHOLDS: "80%" });
  planner = await app.token(await app.user({ roles: ["BOT"] }));
});
afterAll(() => app.stop());

test("a user's thresholds come before the company's, and those before the setting's, in reads and in alerts", async () => {
  const company = await app.company();
  const steps = [
    ["setting", async () => undefined, ["80%"], "SETTING"],
    ["company", () => put(`companies/${company}`, { thresholds: ["30%", "77"] }), ["30%", "77"], "COMPANY"],
    ["user", (name: string) => put(`users/${name}`, { thresholds: ["100%"] }), ["100%"], "USER"],
    ["user off", (name: string) => put(`users/${name}`, { off: true }), [], "USER"],
    ["company again", (name: string) => putAndRemove(`users/${name}`), ["30%", "77"], "COMPANY"],
    ["company off", () => put(`companies/${company}`, { off: true }), [], "COMPANY"],
    ["setting again", () => remove(`companies/${company}`), ["80%"], "SETTING"],
  ] as const;
  let ofCompany: object = {};
  for (const [name, change, thresholds, source] of steps) {
    const username = await app.user({ company_key: company });
    await app.setLimits(username, { points_per_day: 1000 });
    // The server caches the user before the change.
    await settle(username, 1);
    await change(username);
    expect(await read(`users/${username}`), `after: ${name}`).toEqual({ thresholds, source });
    ofCompany = source === "USER" ? ofCompany : { thresholds, source };
    expect(await read(`companies/${company}`), `after: ${name}`).toEqual(ofCompany);
    await settle(username, 1000);
    expect(await writtenThresholds(username), `after: ${name}`).toEqual([...thresholds].toSorted());
  }
});

test("exactly 100 % of the limit and exactly the points of a threshold raise the alert, one point less does not", async () => {
  const username = await app.user();
  await app.setLimits(username, { points_per_day: 1000 });
  await put(`users/${username}`, { thresholds: ["100%", "40"] });
  const steps = [[39], [1, "40"], [959], [1, "100%"], [5]] as const;
  for (const [points, ...expected] of steps) {
    await app.database("outbox").delete();
    await settle(username, points);
    expect(await writtenThresholds(username)).toEqual(expected);
  }
});

test("a change of thresholds is in the audit log, with the user or the company", async () => {
  const company = await app.company();
  const username = await app.user({ company_key: company });
  await put(`users/${username}`, { thresholds: ["50%"] });
  await put(`companies/${company}`, { thresholds: ["50%"] });
  await remove(`users/${username}`);
  const actions = await app.database("audit_action").where({ visible_company: company }).orderBy("time");
  expect(actions.map(({ operation, resource }) => [operation, resource]).slice(-3)).toEqual([
    ["update_user_alert_thresholds", username],
    ["update_company_alert_thresholds", company],
    ["delete_user_alert_thresholds", username],
  ]);
});

test("every server gets a notice of the users whose thresholds have changed", async () => {
  const company = await app.company();
  const users = [await app.user({ company_key: company }), await app.user({ company_key: company })];
  const rows = await app.database("user_account").select("id").whereIn("username", users).orderBy("id");
  const [first, second] = rows.map(({ id }) => `user ${id}`);
  const client = new pg.Client({ connectionString: app.databaseUrl });
  await client.connect();
  const notices: string[] = [];
  client.on("notification", ({ payload = "" }) => notices.push(payload));
  await client.query("listen tollgate");
  const changes = [
    [() => put(`users/${users[0]}`, { thresholds: ["50%"] }), [first]],
    [() => put(`users/${users[0]}`, { thresholds: ["60%"] }), [first]],
    [() => remove(`users/${users[0]}`), [first]],
    [() => put(`companies/${company}`, { off: true }), [first, second]],
    [() => remove(`companies/${company}`), [first, second]],
  ] as const;
  for (const [change, expected] of changes) {
    notices.length = 0;
    await change();
    await client.query("select 1");
    expect(notices.filter((notice) => notice.startsWith("user")).toSorted()).toEqual(expected);
  }
  await client.end();
});

test("thresholds of a deleted user and of a deleted company are deleted with it", async () => {
  const company = await app.company();
  const username = await app.user({ company_key: company });
  await put(`users/${username}`, { thresholds: ["50%"] });
  await put(`companies/${company}`, { thresholds: ["50%"] });
  const count = () => app.database("alert_threshold").count().first();
  const before = Number((await count())?.["count"]);
  await app.http("DELETE", `/admin/users/${username}`, { token: app.admin });
  await app.http("DELETE", `/admin/companies/${company}`, { token: app.admin });
  expect(Number((await count())?.["count"])).toBe(before - 2);
});

test.each<[string, object, string, string]>([
  [
    "a percentage of 0",
    { thresholds: ["80%", "0%"] },
    "thresholds[1]",
    "must be a percentage such as 80%, from 1% to 999%, or a number of points such as 5000",
  ],
  ["a percentage of 1000", { thresholds: ["1000%"] }, "thresholds[0]", "must be a percentage such as 80%"],
  ["negative points", { thresholds: ["-5"] }, "thresholds[0]", "must be a percentage such as 80%"],
  ["a fraction", { thresholds: ["80.5%"] }, "thresholds[0]", "must be a percentage such as 80%"],
  ["an empty text", { thresholds: [""] }, "thresholds[0]", "must be a percentage such as 80%"],
  ["one twice", { thresholds: ["80%", "80%"] }, "thresholds", "must not have an item twice"],
  [
    "21 of them",
    { thresholds: Array.from({ length: 21 }, (_none, index) => `${index + 1}%`) },
    "thresholds",
    "must have at most 20 items",
  ],
  ["none", {}, "thresholds", "must have at least 1 item, unless off is true"],
  ["some that are off", { thresholds: ["80%"], off: true }, "thresholds", "must be empty when off is true"],
])(
  "thresholds with %s are refused with the field and the rule, and nothing changes",
  async (_name, body, field, rule) => {
    const company = await app.company();
    const username = await app.user({ company_key: company });
    for (const path of [`users/${username}`, `companies/${company}`]) {
      const answer = await app.http("PUT", `/admin/${path}/alert-thresholds`, { token: app.admin, body });
      expect(answer.status).toBe(400);
      expect(answer.body.message).toContain(`${field}: ${rule}`);
      expect(await read(path)).toMatchObject({ source: "SETTING" });
    }
  },
);

async function put(path: string, body: object): Promise<void> {
  const answer = await app.http("PUT", `/admin/${path}/alert-thresholds`, { token: app.admin, body });
  expect(answer.status, `answer: ${JSON.stringify(answer.body)}`).toBe(200);
}

async function remove(path: string): Promise<void> {
  expect((await app.http("DELETE", `/admin/${path}/alert-thresholds`, { token: app.admin })).status).toBe(204);
}

async function putAndRemove(path: string): Promise<void> {
  await put(path, { thresholds: ["1%"] });
  await remove(path);
}

async function read(path: string) {
  return (await app.http("GET", `/admin/${path}/alert-thresholds`, { token: app.admin })).body;
}

async function settle(username: string, points: number): Promise<void> {
  const body = { username, service: "ROUTING", method_group: "PLAN", points: 0, operation_id: randomUUID() };
  const acquired = await app.http("POST", "/quota/leases", { token: planner, body });
  expect(acquired.status, `answer: ${JSON.stringify(acquired.body)}`).toBe(200);
  const path = `/quota/leases/${acquired.body.lease.lease_id}:settle`;
  expect((await app.http("POST", path, { token: planner, body: { points } })).status).toBe(200);
}

/** The thresholds of the daily limit for which an alert of the user is in the outbox. */
async function writtenThresholds(username: string): Promise<string[]> {
  const rows = await app.database("outbox").where({ limit_name: "POINTS_PER_DAY" }).select("threshold", "body");
  return rows
    .filter(({ body }) => JSON.parse(body).data.username === username)
    .map(({ threshold }) => threshold)
    .toSorted();
}
