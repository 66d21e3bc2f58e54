import { existsSync } from "node:fs";
import { chmod, cp, mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { startProcess } from "../support/process.ts";

/** The password of the user `planner`. */
export const password = "the password of planner";

/** The server as `npm start` runs it, with the users that the examples need, and a copy of the examples. */
export interface Examples {
  readonly url: string;
  /** A copy of `examples`, `gen` and `proto`: the examples write beside their sources. */
  readonly folder: string;
  /** Creates a user who may use 1,500 points a day, at noon of the user's timezone. */
  createUser(username: string): Promise<void>;
  /** Returns the points that a user has used and reserved today. */
  readUsage(username: string): Promise<{ used: number; reserved: number }>;
  stop(): Promise<void>;
}

export async function startExamples(): Promise<Examples> {
  const folder = await mkdtemp(join(tmpdir(), "tollgate-examples-"));
  await chmod(folder, 0o711);
  await Promise.all(["proto", "gen", "examples"].map((name) => cp(name, join(folder, name), { recursive: true })));
  const data = join(folder, "data");
  const server = await startProcess({ DATA_DIR: data }, ["npm", "start"]);
  let token = "";
  const send = async (method: string, path: string, body?: object) => {
    const headers = { "content-type": "application/json", ...(token !== "" && { authorization: `Bearer ${token}` }) };
    const init = { method, headers, ...(body !== undefined && { body: JSON.stringify(body) }) };
    const response = await fetch(`${server.url}${path}`, init);
    const text = await response.text();
    if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${text}`);
    return text === "" ? undefined : JSON.parse(text);
  };
  const administrator = { username: "admin", password: (await readFile(join(data, "admin.password"), "utf8")).trim() };
  token = (await send("POST", "/admin/token/generation", administrator)).token;
  await send("POST", "/admin/companies", { key: "acme" });
  await send("POST", "/admin/users", { username: "planner", password, company_key: "acme", roles: ["BOT"] });
  return {
    url: server.url,
    folder,
    async createUser(username) {
      // No midnight falls between two calls.
      const timezone = 12 - new Date().getUTCHours();
      await send("POST", "/admin/users", { username, company_key: "acme", roles: ["USER"], timezone });
      const methods = [{ method_group: "PLAN", points_per_day: 1500 }];
      await send("PUT", `/admin/quotas/${username}`, { services: [{ service: "UNIVERSAL", methods }] });
    },
    async readUsage(username) {
      const { usages } = await send("GET", `/quota/usage/${username}`);
      const { used, reserved } = usages[0].limits.find(({ name }: { name: string }) => name === "POINTS_PER_DAY");
      return { used, reserved };
    },
    async stop() {
      await server.end();
      // The signal ends npm itself. The folder of the database shows that the server behind it shut down in order.
      while (existsSync(join(data, "postgres", "postmaster.pid")))
        await new Promise((resolve) => setTimeout(resolve, 50));
      await rm(folder, { recursive: true });
    },
  };
}

/** Returns the commands of a README's console blocks, and their joined output. */
export async function readExample(path: string): Promise<{ commands: string[]; prints: string }> {
  const text = await readFile(path, "utf8");
  const blocks = [...text.matchAll(/```console\n([\s\S]*?)```/g)].map(([, block = ""]) => block);
  const lines = blocks.join("").split(/(?<=\n)/);
  const isCommand = (line: string) => line.startsWith("$ ");
  return {
    commands: lines.filter(isCommand).map((line) => line.slice(2).trimEnd()),
    prints: lines.filter((line) => !isCommand(line)).join(""),
  };
}
