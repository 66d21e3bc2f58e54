import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { password, startTestApp, type TestApp } from "../support/app.ts";
import { type CommandExtra, runCommand } from "../support/command-line.ts";

let app: TestApp;
let company: string;
let folder: string;
beforeAll(async () => {
  app = await startTestApp();
  company = await app.company();
  folder = mkdtempSync(join(tmpdir(), "command-line-"));
});
afterAll(async () => {
  rmSync(folder, { recursive: true });
  await app.stop();
});

test("a token that was printed signs in", async () => {
  const username = await app.user({ company_key: company });
  const { stdout } = await run(["token", "--username", username], {
    environment: { TOLLGATE_TOKEN: "" },
    stdin: `${password}\n`,
  });
  const answer = await app.http("GET", "/account/info", { token: stdout.trim() });
  expect(answer.body).toMatchObject({ username });
});

test("a user is created with a password, blocked, enabled again and given another password", async () => {
  const created = await runJson([
    "user",
    "create",
    "anna_cli",
    "--company",
    company,
    "--roles",
    "PARTNER",
    "--timezone",
    "-5",
  ]);
  expect(await loginStatus("anna_cli", created[0].password)).toBe(200);
  await run(["user", "block", "anna_cli"]);
  expect(await loginStatus("anna_cli", created[0].password)).toBe(401);
  await run(["user", "block", "anna_cli", "--undo"]);
  await run(["user", "reset-password", "anna_cli", "--password-stdin"], { stdin: "a new password 1\n" });
  expect(await loginStatus("anna_cli", created[0].password)).toBe(401);
  expect(await loginStatus("anna_cli", "a new password 1")).toBe(200);
  const listed = await runJson(["user", "list", "--company", company, "--filter", "anna_cli"]);
  expect(listed).toMatchObject([{ username: "anna_cli", company, enabled: true, roles: "PARTNER", timezone: -5 }]);
});

test("a table aligns its columns under their headings", async () => {
  await run(["company", "create", "table_cli", "--detail", "A table"]);
  const { stdout } = await run(["company", "list", "--filter", "table_cli"]);
  expect(stdout).toBe("KEY        DETAIL\ntable_cli  A table\n");
});

test("a table that is much wider than the terminal is printed as one block for each row, without empty values", async () => {
  for (const [key, detail] of [
    ["wide_1", "A"],
    ["wide_2", undefined],
  ] as const) {
    await run(["company", "create", key, ...(detail === undefined ? [] : ["--detail", detail])]);
  }
  const list = ["company", "list", "--filter", "wide_"];
  expect((await run(list, { columns: 10 })).stdout).toBe("KEY     DETAIL\nwide_1  A\nwide_2  -\n");
  expect((await run(list, { columns: 9 })).stdout).toBe("KEY     wide_1\nDETAIL  A\n\nKEY     wide_2\n\n");
});

test("help is at most 80 columns wide, and explains commands, groups of commands and all of them", async () => {
  const helps = [
    ["--help"],
    ["alert", "set", "--help"],
    ["quota", "--help"],
    ["help", "quota"],
    ["help", "quota", "apply"],
  ];
  const printed = await Promise.all(helps.map((words) => run(words)));
  for (const { code, stdout } of printed) {
    expect([code, stdout.split("\n").filter((line) => line.length > 80)]).toEqual([0, []]);
  }
  const [all, , group, same, one] = printed.map(({ stdout }) => stdout);
  expect(all).toMatch(/\n {2}backup +Write the whole database, as it is at one moment, to a\n {23}file or stdout\n/);
  expect(all).toMatch(/serve,\smigrate,\sdoctor,\sverify,\swebhook,\sbackup\sand\srestore\suse the settings/);
  expect(group).toMatch(/quota show[\s\S]*quota set[\s\S]*quota apply/);
  expect(group).not.toContain("user create");
  expect(same).toBe(group);
  expect(one).toMatch(/^Usage: tollgate quota apply USERNAME.*\n[\s\S]*-f, --file FILE/);
});

test("an error on a terminal clears the line of progress", async () => {
  expect((await run(["usage"], { columns: 80 })).stderr).toBe("\r\u001B[Ktollgate: USERNAME must be set\n");
});

test("control characters of names do not reach the terminal", async () => {
  await run(["company", "create", "control_cli", "--detail", "red \u001B[31m\u0007"]);
  const { stdout } = await run(["company", "list", "--filter", "control_cli"]);
  expect(stdout).toContain("control_cli  red");
  for (const control of ["\u001B", "\u0007"]) expect(stdout).not.toContain(control);
});

test("quotas are set, shown, compared with a file and replaced by it", async () => {
  const username = await app.user({ company_key: company });
  await run(["quota", "set", username, "routing", "plan", "--per-day", "1500", "--concurrent", "2"]);
  await run(["quota", "set", username, "ROUTING", "MATRIX", "--per-request", "9"]);
  const file = join(folder, "quota.json");
  writeFileSync(
    file,
    JSON.stringify({ services: [{ service: "ROUTING", methods: [{ method_group: "PLAN", points_per_day: 2000 }] }] }),
  );
  const apply = ["quota", "apply", username, "-f", file];
  const changes = [
    "change ROUTING PLAN: per day from 1500 to 2000",
    "change ROUTING PLAN: concurrent from 2 to unlimited",
    "remove ROUTING MATRIX",
  ];
  expect(await run([...apply, "--dry-run"])).toMatchObject({ code: 1, stdout: `${changes.join("\n")}\n` });
  expect(await run(apply)).toMatchObject({ code: 0 });
  expect(await run([...apply, "--dry-run"])).toMatchObject({ code: 0, stdout: "", stderr: "no change\n" });
  expect(await runJson(["quota", "show", username])).toEqual([
    { period: "base", service: "ROUTING", method: "PLAN", "per request": 1_000_000, "per day": 2000 },
  ]);
});

test("usage and leases are printed, and an administrator releases a lease", async () => {
  const username = await app.user({ company_key: company });
  await run(["quota", "set", username, "ROUTING", "PLAN", "--per-day", "100"]);
  const planner = await app.token(await app.user({ roles: ["BOT"] }));
  const asked = { username, service: "ROUTING", method_group: "PLAN", points: 30, operation_id: crypto.randomUUID() };
  await app.http("POST", "/quota/leases", { token: planner, body: asked });
  const [lease] = await runJson(["lease", "list", username]);
  expect(lease).toMatchObject({ service: "ROUTING", method: "PLAN", points: 30 });
  const usage = () => runJson(["usage", username]);
  expect(await usage()).toContainEqual(expect.objectContaining({ limit: "points_per_day", reserved: 30, of: 100 }));
  expect((await run(["lease", "release", lease.lease])).stdout).toBe(`${lease.lease} is released\n`);
  expect(await usage()).toContainEqual(expect.objectContaining({ limit: "points_per_day", reserved: 0, of: 100 }));
  const actions = await runJson(["audit", "--operation", "force_release_lease"]);
  expect(actions).toContainEqual(expect.objectContaining({ resource: lease.lease, outcome: "SUCCESS" }));
});

test("alert thresholds are set, shown, turned off and removed", async () => {
  const username = await app.user({ company_key: company });
  const show = () => runJson(["alert", "show", "--user", username]);
  expect(await show()).toEqual([{ thresholds: ["80%", "95%", "100%"], source: "setting" }]);
  await run(["alert", "set", "50%,5000", "--company", company]);
  expect(await show()).toEqual([{ thresholds: ["50%", "5000"], source: "company" }]);
  expect((await run(["alert", "set", "off", "--user", username])).stdout).toBe("off (user)\n");
  expect(await show()).toEqual([{ thresholds: [], source: "user" }]);
  expect((await run(["alert", "set", "default", "--user", username])).stdout).toBe("50%,5000 (company)\n");
  await run(["alert", "set", "default", "--company", company]);
  expect((await run(["alert", "show", "--company", company])).stdout).toBe("80%,95%,100% (setting)\n");
});

test("--follow prints new actions until it is interrupted", async () => {
  const interrupted = new AbortController();
  for (const earlier of ["follow_1", "follow_2"]) await run(["company", "create", earlier]);
  let creating: Promise<unknown> | undefined;
  const following = run(["audit", "--follow", "--operation", "create_company", "--limit", "1"], {
    signal: interrupted.signal,
    onOutput: (text) => {
      creating ??= run(["company", "create", "follow_3"]);
      if (text.includes("follow_3")) interrupted.abort();
    },
  });
  const { code, stdout } = await following;
  expect([code, stdout.match(/^TIME |follow_\w+/gm)]).toEqual([0, ["TIME ", "follow_2", "follow_3"]]);
  await creating;
});

test("--follow that is interrupted while it reads is a success", async () => {
  const interrupted = new AbortController();
  const following = run(["audit", "--follow"], { signal: interrupted.signal });
  interrupted.abort();
  expect(await following).toEqual({ code: 0, stdout: "", stderr: "" });
});

test("a report is written to a file", async () => {
  const file = join(folder, "report.xlsx");
  await run(["report", "--output", file, "--from", "2026-01-01", "--to", "2026-02-01"]);
  expect(readFileSync(file).subarray(0, 2).toString()).toBe("PK");
});

test.each<[string, readonly string[], Record<string, string>, number, RegExp]>([
  ["an unknown command", ["frob"], {}, 2, /^tollgate: unknown command: frob/],
  ["a group without a command", ["quota"], {}, 2, /^tollgate: unknown command: quota. tollgate quota --help lists/],
  ["an unknown option", ["usage", "anna", "--frob"], {}, 2, /^tollgate: .*--frob.*\n$/],
  ["an option without its value", ["user", "list", "--limit", "--json"], {}, 2, /^tollgate: .*ambiguous.*\n$/],
  [
    "the end of a period is missing",
    ["quota", "apply", "c", "-f", "x", "--from", "2026-11-01"],
    {},
    2,
    /--from and --to/,
  ],
  [
    "the start of a period is missing",
    ["quota", "apply", "c", "-f", "x", "--to", "2026-11-01"],
    {},
    2,
    /--from and --to/,
  ],
  ["no owner of thresholds", ["alert", "show"], {}, 2, /^tollgate: one of --user and --company must be set/],
  ["a missing argument", ["usage"], {}, 2, /^tollgate: USERNAME must be set\n$/],
  ["an argument too many", ["usage", "anna", "berta"], {}, 2, /^tollgate: unexpected argument: berta\n$/],
  ["a missing option", ["user", "create", "carl"], {}, 2, /^tollgate: --company must be set\n$/],
  ["an unknown role", ["user", "create", "carl", "--company", "c", "--roles", "KING"], {}, 2, /must be one of ADMIN/],
  ["no token", ["usage", "anna"], { TOLLGATE_TOKEN: "" }, 2, /TOLLGATE_TOKEN must be set/],
  ["a request that the server refuses", ["user", "create", "c", "--company", "none"], {}, 3, /username/],
  ["a user who does not exist", ["usage", "nobody_cli"], {}, 4, /USER_NOT_FOUND/],
  ["a wrong token", ["user", "list"], { TOLLGATE_TOKEN: "wrong" }, 5, /TOKEN_INVALID/],
  ["a server that does not answer", ["user", "list"], { TOLLGATE_URL: "http://127.0.0.1:1" }, 75, /ECONNREFUSED/],
])("%s exits with its code, and prints one line to stderr", async (_name, words, environment, code, message) => {
  expect(await run(words, { environment })).toEqual({ code, stdout: "", stderr: expect.stringMatching(message) });
});

test("the completion script for bash completes commands and options", async () => {
  const { stdout: script } = await run(["completion", "bash"]);
  expect(script).toContain("complete -o default -F _tollgate tollgate");
  const use = `COMP_WORDS=(tollgate quota ''); COMP_CWORD=2; _tollgate; echo "\${COMPREPLY[@]}"`;
  const { stdout } = spawnSync("bash", ["-c", `${script}\n${use}`], { encoding: "utf8" });
  expect(stdout.trim().split(/\s+/)).toEqual(expect.arrayContaining(["show", "set", "apply", "--dry-run"]));
});

test("the completion script for zsh loads that of bash", async () => {
  const { stdout } = await run(["completion", "zsh"]);
  expect(stdout).toMatch(/^autoload -U compinit.*\nautoload -U \+X bashcompinit.*\n_tollgate\(\) \{/);
});

function run(words: readonly string[], { environment = {}, ...extra }: Partial<CommandExtra> = {}) {
  return runCommand(words, {
    environment: { TOLLGATE_URL: app.url, TOLLGATE_TOKEN: app.admin, ...environment },
    ...extra,
  });
}

async function runJson(words: readonly string[]) {
  const { code, stdout, stderr } = await run([...words, "--json"]);
  expect([code, stderr]).toEqual([0, ""]);
  return stdout
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line));
}

async function loginStatus(username: string, secret: string): Promise<number> {
  return (await app.http("POST", "/account/token/generation", { body: { username, password: secret } })).status;
}
