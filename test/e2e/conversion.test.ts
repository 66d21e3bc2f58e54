import { execFileSync } from "node:child_process";
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { existsSync, readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { createTestDatabase } from "../support/database.ts";
import { startProcess } from "../support/process.ts";

const adminPassword = "first administrator";
const keys = { TOKEN_KEYS: "a-secret-for-tests-that-is-long-enough", ADMIN_PASSWORD: adminPassword };
/** JSON whose conversion takes seconds. */
const large = JSON.stringify(Array.from({ length: 30_000 }, (_none, id) => ({ id, a: "x", b: id / 7, c: `y${id}` })));

interface Process {
  readonly pid: number;
  readonly parent: number;
  readonly command: string;
}

/** Returns the processes that run. */
function processes(): Process[] {
  return execFileSync("ps", ["-A", "-o", "pid=,ppid=,stat=,args="], { encoding: "utf8" })
    .split("\n")
    .flatMap((line) => {
      const [, pid, parent, state, command = ""] = /^ *(\d+) +(\d+) +(\S+) +(.*)$/.exec(line) ?? [];
      // A zombie process has ended already.
      return state === undefined || state.startsWith("Z")
        ? []
        : [{ pid: Number(pid), parent: Number(parent), command }];
    });
}

/** Returns the launcher of a server and its converters. */
function converters(server: number): { readonly launcher: number | undefined; readonly converters: number[] } {
  const running = processes();
  const launcher = running.find(({ parent, command }) => parent === server && command.includes("/launcher.ts"))?.pid;
  const isConverter = ({ parent, command }: Process) => parent === launcher && command.endsWith(" child.ts json");
  return { launcher, converters: running.filter(isConverter).map(({ pid }) => pid) };
}

/** Returns the nice values of the threads of a process, and of its session where Linux schedules by session. */
function prioritiesOf(pid: number): string[] {
  const threads =
    execFileSync("ps", ["-L", "-o", "ni=", "-p", String(pid)], { encoding: "utf8" }).match(/-?\d+/g) ?? [];
  const group = existsSync("/proc/self/autogroup") ? readFileSync(`/proc/${pid}/autogroup`, "utf8") : "";
  return [...new Set([...threads, ...(/ nice (-?\d+)$/m.exec(group)?.slice(1) ?? [])])];
}

test.each<[string, NodeJS.Signals, boolean, string, number | "cut"]>([
  ["Ctrl-C, which reaches the whole process group", "SIGINT", true, "30000", 200],
  ["SIGTERM", "SIGTERM", false, "30000", 200],
  ["Ctrl-C without time to drain", "SIGINT", true, "0", "cut"],
  ["SIGTERM without time to drain", "SIGTERM", false, "0", "cut"],
])(
  "neither a converter nor its launcher runs after %s, and the log has no error",
  {
    timeout: 180_000,
  },
  async (_what, signal, toGroup, DRAIN_MS, expected) => {
    const { url, drop } = await createTestDatabase();
    const server = await startProcess({ ...keys, DATABASE_URL: url, DRAIN_MS }, undefined, { leadsGroup: true });
    const pid = server.process.pid ?? 0;
    const send = async (path: string, init: RequestInit, token = "") => {
      const headers = { "content-type": "application/json", authorization: `Bearer ${token}` };
      return fetch(`${server.url}${path}`, { ...init, headers });
    };
    const login = JSON.stringify({ username: "admin", password: adminPassword });
    const answer = await send("/admin/token/generation", { method: "POST", body: login });
    const { token } = JSON.parse(await answer.text());
    const path = `/admin/data/${randomUUID()}`;
    expect((await send(`${path}?username=admin`, { method: "PUT", body: large }, token)).status).toBe(200);

    const converted = send(`${path}?data_flow_convert=XLSX`, {}, token).then(
      async (response) => [response.status, (await response.arrayBuffer()).byteLength > 100_000],
      () => ["cut", true],
    );
    await expect.poll(() => converters(pid).converters, { interval: 5, timeout: 10_000 }).toHaveLength(1);
    const {
      launcher,
      converters: [converter = 0],
    } = converters(pid);
    await expect.poll(() => prioritiesOf(converter)).toEqual(["5"]);
    const ended = once(server.process, "exit");
    process.kill(toGroup ? -pid : pid, signal);
    expect(await converted).toEqual([expected, true]);
    expect(await ended).toEqual([0, null]);
    // The launcher ends them when its server has ended.
    const left = () => processes().filter(({ pid }) => pid === launcher || pid === converter);
    await expect.poll(left).toEqual([]);
    expect(server.output()).not.toMatch(/"level":[56]0/);
    await drop();
  },
);
