import { createWriteStream, renameSync, writeFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import pg from "pg";
import { createTestDatabase } from "../../support/database.ts";
import { type ServerProcess, startProcess } from "../../support/process.ts";
import { addressOf, type Proxy, startProxy } from "../../support/proxy.ts";
import { startRedis, type TestRedis } from "../../support/redis.ts";
import type { Line } from "./records.ts";

/** One server process, with a proxy on each of its links. */
export interface Server {
  readonly index: number;
  /** The address for callers, through `callers`. It stays after a restart. */
  readonly url: string;
  readonly links: Readonly<Record<LinkName, Proxy>>;
  process: ServerProcess;
  /** Restarts the server after it has ended. */
  start(): Promise<void>;
  /** Moves this server's own clock, in addition to Redis'. */
  skew(offsetMs: number): void;
}

export const linkNames = ["postgres", "redis", "callers"] as const;
export type LinkName = (typeof linkNames)[number];

/** Real processes on one database and one Redis, and the record of their requests. */
export interface World {
  readonly servers: readonly Server[];
  readonly redis: TestRedis;
  readonly databaseUrl: string;
  readonly historyFile: string;
  record(line: Line): void;
  /** Ends the record. After that the file has every line. */
  closeHistory(): Promise<void>;
  /** The folder of the run. A run without failures removes it. */
  removeHistory(): Promise<void>;
  /** Moves Redis' clock, and with it those of all servers, by milliseconds. */
  moveClock(byMs: number): Promise<void>;
  /** The offset of Redis' clock, in milliseconds. */
  movedMs(): number;
  /** The greatest offset so far, in milliseconds. */
  furthestMs(): number;
  /** Today by Redis' clock, in days from 1970-01-01, UTC. */
  today(): number;
  /** Runs statements as an administrator of the database, on a separate connection. */
  administer<Result>(work: (client: pg.Client) => Promise<Result>): Promise<Result>;
  /** Ends the servers in order, and returns their exit codes. */
  end(): Promise<(number | null)[]>;
  stop(): Promise<void>;
}

export const adminPassword = "first administrator";
const clockSettleMs = 20;

export interface WorldOptions {
  readonly servers: number;
  readonly settings: Readonly<Record<string, string>>;
  /** The folder of the code to run: this project, or a changed copy. */
  readonly source: string;
}

export async function startWorld({ servers: count, settings, source }: WorldOptions): Promise<World> {
  const folder = await mkdtemp(join(tmpdir(), "tollgate-history-"));
  const historyFile = join(folder, "history.jsonl");
  const history = createWriteStream(historyFile);
  const database = await createTestDatabase();
  const redis = await startRedis();
  const clockFile = join(folder, "clock");
  let movedMs = 0;
  let furthestMs = 0;
  put(clockFile, 0);
  const baseMs = Date.now() - performance.now();
  const record = (line: Line) => void history.write(`${JSON.stringify(line)}\n`);
  record({ call: "start", baseMs, isCommit: settings["LEDGER_ACK"] === "commit" });

  async function startServer(index: number): Promise<Server> {
    const skewFile = join(folder, `clock-${index}`);
    put(skewFile, 0);
    const links = {
      postgres: await startProxy(addressOf(database.url)),
      redis: await startProxy(addressOf(redis.url)),
    };
    const environment = {
      DATABASE_URL: links.postgres.url(database.url),
      REDIS_URL: links.redis.url(redis.url),
      TOKEN_KEYS: "a-secret-for-tests-that-is-long-enough",
      ADMIN_PASSWORD: adminPassword,
      SERVER_NAME: `server_${index}`,
      LOG_LEVEL: "error",
      DATABASE_TIMEOUT_MS: "5000",
      CLOCK_FILES: `${clockFile},${skewFile}`,
      ...settings,
    };
    const command = [process.execPath, "--import", "tsx", join(source, "test/support/moved-server.ts")];
    const launch = () => startProcess(environment, command);
    const first = await launch();
    // A restarted server has another port. The address of its proxy stays.
    const to = addressOf(first.url);
    const callers = await startProxy(to);
    const server: Server = {
      index,
      url: callers.url(first.url).replace(/\/$/, ""),
      links: { ...links, callers },
      process: first,
      async start() {
        server.process = await launch();
        Object.assign(to, addressOf(server.process.url));
      },
      skew: (offsetMs) => put(skewFile, offsetMs),
    };
    return server;
  }

  const servers: Server[] = [];
  // The first server migrates and creates the administrator.
  for (let index = 0; index < count; index += 1) servers.push(await startServer(index));

  return {
    servers,
    redis,
    databaseUrl: database.url,
    historyFile,
    record,
    closeHistory: () => new Promise<void>((resolve) => void history.end(resolve)),
    removeHistory: () => rm(folder, { recursive: true }),
    async moveClock(byMs) {
      const sent = performance.now();
      movedMs += byMs;
      furthestMs = Math.max(furthestMs, movedMs);
      put(clockFile, movedMs);
      await new Promise((resolve) => setTimeout(resolve, clockSettleMs));
      record({ call: "clock", sent, answered: performance.now(), offsetMs: baseMs + movedMs });
    },
    movedMs: () => movedMs,
    furthestMs: () => furthestMs,
    today: () => Math.floor((Date.now() + movedMs) / 86_400_000),
    async administer(work) {
      const client = new pg.Client({ connectionString: database.url, application_name: "administrator" });
      client.on("error", () => undefined);
      await client.connect();
      try {
        return await work(client);
      } finally {
        await client.end();
      }
    },
    end: () => Promise.all(servers.map((server) => server.process.end())),
    async stop() {
      for (const { process, links } of servers) {
        if (process.process.exitCode === null && process.process.signalCode === null) await process.end("SIGKILL");
        for (const link of Object.values(links)) await link.close();
      }
      await redis.kill();
      await database.drop();
    },
  };
}

/** Writes atomically: a concurrent reader sees the old number or the new one. */
function put(file: string, offsetMs: number): void {
  writeFileSync(`${file}.new`, String(offsetMs));
  renameSync(`${file}.new`, file);
}
