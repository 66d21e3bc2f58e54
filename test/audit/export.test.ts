import { execFileSync } from "node:child_process";
import { randomBytes, randomUUID } from "node:crypto";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type Json, startTestApp, type TestApp } from "../support/app.ts";
import { startReceiver } from "../support/receiver.ts";

const count = 2300;
const operations = ["run_plan", '=HYPERLINK("x")', "-1+2", "@sum, then; more", '"quoted" ünï', "'apostrophe"];
let app: TestApp;
let receiver: Awaited<ReturnType<typeof startReceiver>>;
let first: { readonly user: string; readonly partner: string };
let second: { readonly user: string; readonly partner: string };
beforeAll(async () => {
  receiver = await startReceiver();
  const secret = `whsec_${randomBytes(32).toString("base64")}`;
  app = await startTestApp({ AUDIT_SINK_URL: receiver.url, AUDIT_SINK_SECRET: secret, QUOTA_DEFAULT: "unlimited" });
  [first, second] = [await createCompany(), await createCompany()];
  await record(first.user, count);
  await record(second.user, 5);
});
afterAll(async () => {
  await app.stop();
  await receiver.stop();
});

async function createCompany() {
  const company_key = await app.company();
  const user = await app.user({ company_key, roles: ["USER"] });
  return { user, partner: await app.token(await app.user({ company_key, roles: ["PARTNER"] })) };
}

async function record(username: string, number: number): Promise<void> {
  const startMs = Date.now() - 60_000;
  const actions = Array.from({ length: number }, (_none, index) => ({
    tracecode: randomUUID(),
    username,
    service: "ROUTING",
    operation: operations[index % operations.length],
    method_group: "PLAN",
    time: new Date(startMs + index).toISOString(),
    points: index % 3,
    ...(index % 2 === 0 && { duration: "PT1.5S" }),
    outcome: index % 5 === 0 ? "FAILURE" : "SUCCESS",
  }));
  for (let index = 0; index < number; index += 1000) {
    const body = { actions: actions.slice(index, index + 1000) };
    const { status } = await app.http("POST", "/audit/actions", { token: app.admin, body });
    expect(status).toBe(200);
  }
}

async function get(accept: string, query: Record<string, string>, token = app.admin) {
  // Yesterday too: the test may run at midnight.
  const from = new Date(Date.now() - 86_400_000).toISOString();
  const path = `/admin/audit?${new URLSearchParams({ from, ...query }).toString()}`;
  return app.http("GET", path, { token, headers: { accept } });
}

/** Parses CSV by Python's module, and removes the apostrophes that guard texts. */
function parseCsv(text: string): Record<string, string>[] {
  const script =
    "import csv,io,json,sys; print(json.dumps(list(csv.DictReader(io.StringIO(sys.stdin.read(), newline='')))))";
  const rows: Record<string, string>[] = JSON.parse(
    execFileSync("python3", ["-X", "utf8", "-c", script], { input: text, encoding: "utf8", maxBuffer: 1e8 }),
  );
  return rows.map((row) =>
    Object.fromEntries(Object.entries(row).map(([name, cell]) => [name, cell.replace(/^'/, "")])),
  );
}

/** Returns the cells of an action as the CSV must have them. */
function cellsOf({ tracedata, statistics, ...fields }: Json): Record<string, string> {
  const dotted = (name: string, nested: Json) =>
    Object.fromEntries(Object.entries(nested).map(([key, value]) => [`${name}.${key}`, value]));
  const columns = ["resource", "outcome", "address", "count", "statistics.points_count", "statistics.duration"];
  const cells = { ...fields, ...dotted("tracedata", tracedata), ...dotted("statistics", statistics) };
  const empty = Object.fromEntries(columns.map((name) => [name, ""]));
  return { ...empty, ...Object.fromEntries(Object.entries(cells).map(([name, value]) => [name, String(value)])) };
}

const parseLines = (text: string): Json[] =>
  text
    .trimEnd()
    .split("\n")
    .map((line): Json => JSON.parse(line));

test("NDJSON and CSV of several pages have the actions of the JSON list", async () => {
  const query = { limit: "5000", username: first.user };
  const { body } = await get("application/json", query);
  expect(body.actions).toHaveLength(count);
  const ndjson = await get("application/x-ndjson", query);
  expect(parseLines(ndjson.body)).toEqual(body.actions);
  const csv = await get("text/csv", query);
  expect(csv.headers.get("content-type")).toBe("text/csv; charset=utf-8; header=present");
  expect(parseCsv(csv.body)).toEqual(body.actions.map(cellsOf));
});

test("the filters, the order and the page of the list apply to CSV and NDJSON", async () => {
  const query = { offset: "7", limit: "20", username: first.user, outcome: "FAILURE", sort_direction: "DESC" };
  const { body } = await get("application/json", query);
  expect(body.actions).toHaveLength(20);
  expect(parseLines((await get("application/x-ndjson", query)).body)).toEqual(body.actions);
  expect(parseCsv((await get("text/csv", query)).body)).toEqual(body.actions.map(cellsOf));
  // Without a limit, 100 as in the list.
  const { body: text } = await get("text/csv", { username: first.user });
  expect(parseCsv(text)).toHaveLength(100);
});

test("a partner gets the actions of no other company, and a caller without a token gets an error in JSON", async () => {
  const accepts = ["text/csv", "application/x-ndjson"];
  for (const accept of accepts) {
    // Reads are events of the log, written within a second: one may come between the two lists.
    const difference = async () => {
      const { body: own } = await get(accept, { limit: "5000" }, second.partner);
      expect(own).toContain(second.user);
      expect(own).not.toContain(first.user);
      const rows = accept === "text/csv" ? parseCsv(own) : parseLines(own);
      const { body: listed } = await get("application/json", { limit: "5000" }, second.partner);
      return rows.length - listed.actions.length;
    };
    await expect.poll(difference).toBe(0);
  }
  // Comes after the lists: the partner's own read of that user is an event that the partner sees.
  for (const accept of accepts) {
    const { body: others } = await get(accept, { username: first.user }, second.partner);
    expect(others).not.toContain(first.user);
    const refused = await get(accept, {}, "no-token");
    expect([refused.status, refused.body.reason]).toEqual([401, "TOKEN_INVALID"]);
    const invalid = await get(accept, { limit: "0" });
    expect([invalid.status, invalid.headers.get("content-type")]).toEqual([400, "application/json; charset=utf-8"]);
  }
});

test("the sink receives changes, logins and recorded actions, as the list shows them", async () => {
  await expect.poll(() => app.database("audit_outbox"), { timeout: 20_000 }).toEqual([]);
  const actions: Json[] = receiver.received.flatMap(({ body }) => JSON.parse(body).data.actions);
  expect(new Set(actions.map(({ id }) => id)).size).toBe(actions.length);
  const sent = actions.filter(({ username }) => username === first.user).map(({ id: _id, ...action }) => action);
  const { body } = await get("application/json", { limit: "5000", username: first.user });
  expect(sent).toEqual(body.actions.map(({ has_data: _later, ...action }: Json) => action));
  const lease = {
    username: first.user,
    service: "ROUTING",
    method_group: "PLAN",
    points: 5,
    operation_id: randomUUID(),
  };
  const acquired = await app.http("POST", "/quota/leases", { token: app.admin, body: lease });
  const { lease_id: id } = acquired.body.lease;
  await app.http("POST", `/quota/leases/${id}:settle`, { token: app.admin, body: { points: 5, operation: "settled" } });
  const receivedText = () => receiver.received.map(({ body: text }) => text).join("");
  await expect.poll(receivedText, { timeout: 20_000 }).toContain('"operation":"settled"');
  const kinds = actions.map(({ tracedata }) => tracedata.operation);
  expect(kinds).toEqual(expect.arrayContaining(["create_company", "create_user", "login"]));
});
