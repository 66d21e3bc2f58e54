import { readFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Answer, type CallOptions, type Json, startTestApp, type TestApp } from "./support/app.ts";

const text = readFileSync("test/spec/specification.txt", "utf8");
const xlsx = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet";
const tracecode = "11111111-2222-3333-4444-555555555555";
const user = "my_username_for_login";

/** The specification's examples are dated 21 February 2024, so the server's clock is set to that day. */
const now = Date.parse("2024-02-21T18:00:00+03:00");

let app: TestApp;
beforeAll(async () => {
  app = await startTestApp();
  app.advance(now - Date.now());
});
afterAll(() => app.stop());

const call = (method: string, path: string, options: CallOptions = {}): Promise<Answer> =>
  app.http(method, path, { token: app.admin, ...options });

/** Returns the first JSON body in the text with this beginning. The text prints a list mark before each line of a body. */
function printed(beginning: string): Json {
  const start = text.indexOf(`{- ${beginning}`);
  if (start === -1) throw new Error(`the text prints no such body: ${beginning}`);
  let depth = 0;
  let end = start;
  do {
    if (text[end] === "{") depth += 1;
    if (text[end] === "}") depth -= 1;
    end += 1;
  } while (depth > 0);
  return JSON.parse(text.slice(start, end).replaceAll(/(?<=^|[{,[] ?)- /gm, ""));
}

/** Returns the example values of a query parameter in the text, without duplicates: `10` for `limit=10`. */
function examplesOf(parameter: string): string[] {
  return [
    ...new Set([...text.matchAll(new RegExp(`Example: ${parameter}=(.+?) [A-Z]`, "g"))].map((match) => match[1] ?? "")),
  ];
}

describe("the bodies in the specification", () => {
  test("an administrator creates, updates, reads and lists a company", async () => {
    const company = printed('"key": "my_company"');
    expect(await call("POST", "/admin/companies", { body: company })).toMatchObject({ status: 201, body: company });
    expect(await call("PUT", "/admin/companies", { body: company })).toMatchObject({ status: 200, body: company });
    expect(await call("GET", "/admin/companies/my_company")).toMatchObject({ status: 200, body: company });
    const { status, body } = await call("GET", "/admin/companies?filter=my_company");
    expect(status).toBe(200);
    // The total includes the company of the first administrator.
    expect(body).toEqual({
      companies: printed('"companies"').companies,
      statistics: { overall: { total: 2 }, filter: { total: 1 } },
    });
  });

  test("an administrator creates, updates, reads and lists a user, without the password", async () => {
    const request = printed('"username": "my_username_for_login",\n- "password"');
    const answer = printed('"username": "my_username_for_login",\n- "name"');
    expect(await call("POST", "/admin/users", { body: request })).toMatchObject({ status: 201 });
    const updated = await call("PUT", "/admin/users", { body: request });
    expect(updated.status).toBe(200);
    expect(updated.body).toEqual(answer);
    expect((await call("GET", `/admin/users/${user}`)).body).toEqual(answer);
    const list = printed('"users": [\n- {\n- "username": "my_username_for_login",\n- "name"');
    const { body } = await call("GET", "/admin/users?company_key=my_company&user_group=ACTIVE");
    expect(body.users).toEqual(list.users);
    expect(Object.keys(body.statistics)).toEqual(Object.keys(list.statistics));
    expect(Object.keys(body.statistics.filter)).toEqual(Object.keys(list.statistics.filter));
  });

  test("an administrator sets and reads quotas", async () => {
    const path = `/admin/quotas/${user}`;
    expect((await call("PUT", path, { body: printed('"services"') })).status).toBe(204);
    const { status, body } = await call("GET", path);
    expect(status).toBe(200);
    expect(body).toMatchObject(printed('"base"'));
  });

  test("the audit log lists an action as it was recorded, and the statistics of its day count its points", async () => {
    const { actions } = printed('"actions"');
    const { tracedata, method_group } = actions[0];
    const { code, server, service, operation, time } = tracedata;
    const recorded = {
      tracecode: code,
      username: user,
      server,
      service,
      operation,
      method_group,
      duration: "754.300s",
    };
    const keys = Array.from({ length: 1500 }, (_, index) => index);
    const body = {
      actions: [
        { ...recorded, time, points: 1500 },
        { ...recorded, time: "2024-02-05T09:30:00+03:00", points: 1500, point_keys: keys },
      ],
    };
    expect(await call("POST", "/audit/actions", { body })).toMatchObject({ status: 200, body: { recorded: 2 } });

    const listed = await call("GET", `/admin/audit?from=${time}&username=${user}`);
    expect(listed.status).toBe(200);
    const [first] = listed.body.actions;
    expect(Date.parse(first.tracedata.time)).toBe(Date.parse(time));
    expect(first.statistics).toEqual({ points_count: 1500, duration: "PT12M34.3S" });
    expect(first.tracedata.client).toBe(`my_company_|_${user}`);
    expect(first).toMatchObject({ method_group, tracedata: { code, server, service, operation } });
    expect(listed.body.statistics.filter).toEqual(printed('"actions"').statistics.filter);

    const statistics = await call("GET", `/admin/statistics?username=${user}&to=2024-02-21`);
    expect(statistics.body).toEqual(printed('"users": [\n- {\n- "username": "my_username_for_login",\n- "dates"'));
  });

  test("an error response has the fields of the printed error", async () => {
    const error = printed('"tracedata"');
    const { status, body } = await call("POST", "/admin/companies", { body: {}, headers: { tracecode } });
    expect(status).toBe(400);
    expect(Object.keys(body.tracedata)).toEqual(Object.keys(error.tracedata));
    expect(body.tracedata.code).toBe(error.tracedata.code);
    expect(body.message).toBeTypeOf("string");
  });

  test("a missing file has the fields of the printed 404", async () => {
    const missing = printed('"resource_id"');
    const { status, body } = await call("GET", "/admin/file/file_en.html", { headers: { tracecode } });
    expect(status).toBe(404);
    expect(body).toMatchObject({ resource_id: "file_en.html", detail: { tracedata: { code: tracecode } } });
    expect(Object.keys(body.detail.tracedata)).toEqual(Object.keys(missing.detail.tracedata));
  });

  test("the version response has the printed fields", async () => {
    const { body } = await call("GET", "/admin/system/version");
    expect(Object.keys(body)).toEqual(Object.keys(printed('"major"')));
  });
});

describe("the query parameters in the specification", () => {
  const common = ["offset", "limit", "filter", "sort_direction"];
  const audit = [
    "offset",
    "limit",
    "from",
    "to",
    "company_key",
    "username",
    "service_name",
    "operation_id",
    "method_group",
  ];
  test.each<[path: string, parameters: string[]]>([
    ["/admin/companies", common],
    ["/admin/users", [...common, "sort_field", "company_key", "user_group"]],
    ["/admin/audit", [...audit, "sort_direction"]],
    ["/admin/statistics", ["username"]],
    ["/admin/report", ["username"]],
  ])("GET %s accepts %j, each alone and all together", async (path, parameters) => {
    const values = parameters.map((parameter) => {
      const [value] = examplesOf(parameter).filter((example) => !/^\d{4}-\d\d-\d\d$/.test(example));
      if (value === undefined) throw new Error(`the text has no example of ${parameter}`);
      // A URL must not contain a space. The plus of a time zone stays as it is printed.
      return `${parameter}=${value.replaceAll(" ", "%20")}`;
    });
    for (const query of [...values, values.join("&")]) {
      const { status, body } = await call("GET", `${path}?${query}`);
      expect([query, status, body.message]).toEqual([query, 200, undefined]);
    }
  });

  test.each([["/admin/companies"], ["/admin/audit"]])(
    "GET %s refuses sort_field=name and names the field",
    async (path) => {
      const { status, body } = await call("GET", `${path}?sort_field=name`);
      expect([status, body.validations[0].field]).toEqual([400, "sort_field"]);
    },
  );

  test("a period with equal from and to is empty", async () => {
    const [from, to] = [examplesOf("from"), examplesOf("to")].map((values) =>
      values.find((value) => value.length === 10),
    );
    expect([from, to]).toEqual(["2024-02-22", "2024-02-22"]);
    const query = `from=${from}&to=${to}&username=${user}`;
    expect(await call("GET", `/admin/statistics?${query}`)).toMatchObject({ status: 200, body: { users: [] } });
    const report = await call("GET", `/admin/report?${query}`);
    expect([report.status, report.headers.get("content-type")]).toEqual([200, xlsx]);
  });

  test("an administrator reads data by flow type, stage and conversion", async () => {
    const parameters = ["data_flow_type", "data_flow_stage", "data_flow_convert"];
    const query = parameters.map((parameter) => `${parameter}=${examplesOf(parameter)[0]}`);
    expect(query).toEqual(["data_flow_type=OUTPUT", "data_flow_stage=1", "data_flow_convert=JSON"]);
    const stored = { orders: [{ id: 1 }] };
    const path = `/admin/data/${tracecode}`;
    const put = await call("PUT", `${path}?username=${user}&${query[0]}&${query[1]}`, { body: stored });
    expect(put.status).toBe(200);
    expect(await call("GET", `${path}?${query.join("&")}`)).toMatchObject({ status: 200, body: stored });
  });

  test("a company with users cannot be deleted, but quotas and the user can", async () => {
    expect((await call("DELETE", "/admin/companies/my_company")).status).toBe(409);
    expect((await call("DELETE", `/admin/quotas/${user}`)).status).toBe(204);
    expect((await call("DELETE", `/admin/users/${user}`)).status).toBe(204);
  });
});
