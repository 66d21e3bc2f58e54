import { readFileSync, writeFileSync } from "node:fs";
import { chmod, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Closers, closeAll } from "../../src/app/closers.ts";
import { type Database, openDatabase } from "../../src/postgres/database.ts";
import { startEmbedded } from "../../src/postgres/embedded/embedded.ts";
import { migrate } from "../../src/postgres/migrate.ts";
import { type ServerProcess, startProcess } from "../support/process.ts";
import { serviceOf } from "./rivals/processes.ts";

/** A server process on its own PostgreSQL, and an administrator's token. */
export interface Fixture {
  readonly database: Database;
  readonly server: ServerProcess;
  readonly token: string;
  /** Sends a request. @throws Error for any status other than success */
  get(path: string): Promise<Response>;
  /** Returns the megabytes of the server's process: now, or at its peak since forgetPeak. */
  memory(field: "VmRSS" | "VmHWM"): number;
  forgetPeak(): void;
  end(): Promise<void>;
}

const password = "first administrator";

/**
 * Starts the fixture. On failure, it stops what it has started.
 * @param command the command that runs the server. Default: this tree, built, as `npm start` runs it
 */
export async function startFixture(
  settings: Record<string, string> = {},
  command: readonly string[] = serviceOf("."),
): Promise<Fixture> {
  const closers: Closers = [];
  try {
    return await openFixture(closers, settings, command);
  } catch (error) {
    await closeAll(closers);
    throw error;
  }
}

async function openFixture(
  closers: Closers,
  settings: Record<string, string>,
  command: readonly string[],
): Promise<Fixture> {
  const folder = await mkdtemp(join(tmpdir(), "tollgate-bench-"));
  closers.push(() => rm(folder, { recursive: true }));
  await chmod(folder, 0o711);
  const postgres = await startEmbedded({ folder, onExit: () => console.error("PostgreSQL has ended") });
  closers.push(() => within(60_000, "PostgreSQL stops", postgres.stop()));
  const database = openDatabase({ url: postgres.url, poolSize: 4, statementTimeoutMs: 3_600_000 });
  closers.push(() => within(60_000, "the connections to PostgreSQL close", database.destroy()));
  await migrate(database);
  const environment = {
    DATABASE_URL: postgres.url,
    TOKEN_KEYS: "a-secret-for-the-bench-of-32-characters",
    ADMIN_PASSWORD: password,
    LOG_LEVEL: "error",
    ...settings,
  };
  const server = await within(60_000, "the server starts", startProcess(environment, command));
  closers.push(() => within(60_000, "the server stops", server.end()));
  const token = await within(60_000, "the first login is answered", login(server));
  const memory = (field: "VmRSS" | "VmHWM") => {
    const status = readFileSync(`/proc/${server.process.pid}/status`, "utf8");
    return Math.round(Number(new RegExp(`${field}:\\s+(\\d+)`).exec(status)?.[1]) / 1024);
  };
  return {
    database,
    server,
    token,
    async get(path) {
      const response = await fetch(`${server.url}${path}`, { headers: { authorization: `Bearer ${token}` } });
      if (!response.ok) throw new Error(`${path}: ${response.status} ${await response.text()}`);
      return response;
    },
    memory,
    forgetPeak: () => writeFileSync(`/proc/${server.process.pid}/clear_refs`, "5"),
    end: () => closeAll(closers),
  };
}

async function login({ url }: ServerProcess): Promise<string> {
  const response = await fetch(`${url}/admin/token/generation`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ username: "admin", password }),
  });
  const { token } = JSON.parse(await response.text());
  return token;
}

/** @throws Error with the description when the work takes longer than the limit */
export async function within<Result>(limitMs: number, what: string, work: Promise<Result>): Promise<Result> {
  let timer: NodeJS.Timeout | undefined;
  const expired = new Promise<never>((_done, fail) => {
    timer = setTimeout(() => fail(new Error(`not within ${limitMs} ms: ${what}`)), limitMs);
  });
  return Promise.race([work, expired]).finally(() => clearTimeout(timer));
}

export async function timed(work: () => Promise<unknown>): Promise<number> {
  const started = performance.now();
  await work();
  return performance.now() - started;
}

export function median(values: readonly number[]): number {
  return values.toSorted((left, right) => left - right)[Math.floor(values.length / 2)] ?? Number.NaN;
}

/** @param share 0.99 for the 99th percentile */
export function quantile(values: readonly number[], share: number): number {
  return values.toSorted((left, right) => left - right)[Math.floor(values.length * share)] ?? Number.NaN;
}

export function seconds(milliseconds: number): string {
  return `${(milliseconds / 1000).toFixed(1)} s`;
}
