import type { Json } from "../support/app.ts";

/** The resources that exist on the server, so that calls reach the handlers. */
export interface Known {
  /** Texts of existing resources, by the name of the field. */
  values(field: string): readonly string[];
  /** Reads the names of new resources from the JSON of an answer. */
  learn(method: string, json: string): void;
  /** Creates the resources again that calls deleted. */
  restore(): Promise<void>;
  /** The tokens to choose from: the administrator's for most calls, those of other users, and none. */
  tokens(method: string): readonly string[];
}

export const adminPassword = "first administrator";
const userPassword = "fuzz user's password";
const users = ["fuzz_1", "fuzz_2", "fuzz_3", "fuzz_4"];
const staff = { fuzz_bot: "BOT", fuzz_partner: "PARTNER", fuzz_user: "USER" };
/** Changes its own password. No other call names it: its token must last until the change. */
const changer = "fuzz_changer";
const company = "fuzz_company";
/** Tracecodes with data: of a user, and of the administrator, who makes most calls. */
const dataOf = {
  fuzz_1: "11111111-2222-4333-8444-555555555555",
  admin: "11111111-2222-4333-8444-666666666666",
};
const keptNames = 12;
const noToken = "no.token.atall";

/** Creates a company, users with quotas, and callers of each role. */
export async function createKnown(url: string): Promise<Known> {
  const admin = await login("admin", adminPassword);
  const values: Record<string, string[]> = {
    username: [...users, "fuzz_user", "fuzz_new"],
    company_key: [company],
    key: [company, "fuzz_other", "fuzz_new"],
    lease_id: [],
    tracecode: Object.values(dataOf),
    operation_id: [],
    password: [userPassword, "another fuzz password"],
    current_password: [userPassword],
    new_password: [userPassword],
    token: [admin, "x".repeat(20)],
    filename: ["openapi.yaml", "admin_en.html", "a.json"],
    from: ["2026-11-01", "2026-11-25", "2099-01-01", "2099-01-02"],
    to: ["2026-11-25", "2026-12-01", "2099-01-02", "2099-01-31"],
    service: ["ROUTING", "UNIVERSAL"],
    method_group: ["PLAN", "REFINE"],
    data_flow_type: ["INPUT"],
    filter: ["fuzz", "a", "%"],
    sort_field: ["username", "key", "time", "company_key", "nothing"],
    operation: ["create_user", "fuzz operation"],
    server: ["fuzz server"],
  };
  const others: string[] = [];
  let ofChanger = "";
  const known: Known = {
    values: (field) => values[field] ?? [],
    tokens: (method) =>
      method === "UpdatePassword"
        ? [ofChanger, admin]
        : [...Array.from({ length: 20 }, () => admin), ...others, "", noToken],
    learn(method, json) {
      // The change invalidates its own token.
      if (method === "UpdatePassword") ofChanger = /"([\w-]+\.[\w-]+\.[\w-]+)"/.exec(json)?.[1] ?? ofChanger;
      for (const [, field = "", value = ""] of json.matchAll(/"(lease_id|operation_id|tracecode|code)":"([^"\\]+)"/g)) {
        const names = values[field === "code" ? "tracecode" : field];
        if (names === undefined || names.includes(value)) continue;
        names.push(value);
        // The first tracecodes have data.
        if (names.length > keptNames) names.splice(Object.keys(dataOf).length, 1);
      }
    },
    async restore() {
      for (const key of [company, "fuzz_other"]) await send("POST", "/admin/companies", { key });
      for (const username of users) {
        const user = { username, company_key: company, roles: ["USER"], password: userPassword, enabled: true };
        await send("POST", "/admin/users", user);
        await send("PUT", "/admin/users", user);
        const methods = [{ method_group: "PLAN" }, { method_group: "REFINE" }];
        const services = [
          { service: "ROUTING", methods },
          { service: "UNIVERSAL", methods },
        ];
        await send("PUT", `/admin/quotas/${username}`, { services });
        const request = {
          username,
          service: "ROUTING",
          method_group: "PLAN",
          points: 1,
          operation_id: crypto.randomUUID(),
        };
        known.learn("AcquireQuota", await send("POST", "/quota/leases", request));
      }
      for (const [username, tracecode] of Object.entries(dataOf)) {
        for (const stage of [0, 1]) {
          const query = `username=${username}&method_group=PLAN&data_flow_type=INPUT&data_flow_stage=${stage}&filename=a.json`;
          await send("PUT", `/admin/data/${tracecode}?${query}`, {});
        }
      }
      await send("POST", "/admin/companies", { key: changer });
      const own = { username: changer, company_key: changer, roles: ["USER"], password: userPassword, enabled: true };
      await send("POST", "/admin/users", own);
      await send("PUT", "/admin/users", own);
      // A concurrent call may set another password, until the next refresh.
      ofChanger = await login(changer, userPassword).catch(() => ofChanger);
    },
  };

  await known.restore();
  if (known.values("lease_id").length < users.length) throw new Error("the users that calls name have no leases");
  for (const [username, role] of Object.entries(staff)) {
    await send("POST", "/admin/users", { username, company_key: company, roles: [role], password: userPassword });
    others.push(await login(username, userPassword));
  }
  return known;

  async function send(method: string, path: string, body: Json): Promise<string> {
    const headers = { "content-type": "application/json", authorization: `Bearer ${admin}` };
    const answer = await fetch(`${url}${path}`, { method, headers, body: JSON.stringify(body) });
    return answer.text();
  }

  async function login(username: string, password: string): Promise<string> {
    const answer = await fetch(`${url}/admin/token/generation`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ username, password }),
    });
    const text = await answer.text();
    const { token } = JSON.parse(text) as { token?: string };
    if (token === undefined) throw new Error(`${username} cannot log in: ${answer.status} ${text}`);
    return token;
  }
}
