import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { chmod, mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { type AddressInfo, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { openDatabase } from "../../src/postgres/database.ts";
import { type EmbeddedServer, startEmbedded } from "../../src/postgres/embedded/embedded.ts";
import { migrate } from "../../src/postgres/migrate.ts";
import { dropPartitions, ensurePartitions } from "../../src/postgres/partitions.ts";

let parent: string;
let folder: string;
let running: EmbeddedServer[];
let children: ChildProcess[];

beforeEach(async () => {
  parent = await mkdtemp(join(tmpdir(), "tollgate-embedded-"));
  // When root runs the tests, PostgreSQL runs as another user, who must be able to enter this folder.
  await chmod(parent, 0o711);
  folder = join(parent, "data");
  running = [];
  children = [];
});

afterEach(async () => {
  for (const child of children) await killed(child);
  // PostgreSQL outlives the killed process. Starting again takes it over, so that it can be stopped.
  if (children.length > 0 && running.length === 0) await start();
  await Promise.all(running.map((server) => server.stop()));
  await rm(parent, { recursive: true });
});

async function start(onExit = (): void => undefined): Promise<EmbeddedServer> {
  const server = await startEmbedded({ folder, settings: { fsync: "off" }, onExit });
  running.push(server);
  return server;
}

async function stop(server: EmbeddedServer): Promise<void> {
  running = running.filter((candidate) => candidate !== server);
  await server.stop();
}

async function query(server: { url: string }, sql: string): Promise<Record<string, unknown>[]> {
  const database = openDatabase({ url: server.url, poolSize: 1, statementTimeoutMs: 5000 });
  try {
    return (await database.raw(sql)).rows;
  } finally {
    await database.destroy();
  }
}

/** A separate process that runs PostgreSQL on the folder. */
async function startElsewhere(): Promise<{ pid: number; url: string; kill(): Promise<void> }> {
  const module = new URL("../../src/postgres/embedded/embedded.ts", import.meta.url).href;
  const script = `
    const { startEmbedded } = await import(${JSON.stringify(module)});
    const server = await startEmbedded({ folder: ${JSON.stringify(folder)}, onExit() {} });
    console.log(server.url);`;
  const child = spawn(process.execPath, ["--import", "tsx", "--input-type=module", "--eval", script], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  children.push(child);
  const url = await new Promise<string>((resolve, reject) => {
    createInterface(child.stdout).once("line", resolve);
    child.once("exit", () => reject(new Error("the separate process ended")));
  });
  return { pid: child.pid ?? 0, url, kill: () => killed(child) };
}

async function killed(child: ChildProcess): Promise<void> {
  if (child.signalCode !== null || child.exitCode !== null) return;
  const ended = once(child, "exit");
  child.kill("SIGKILL");
  await ended;
}

async function postmaster(): Promise<number> {
  return Number((await readFile(join(folder, "postgres", "postmaster.pid"), "utf8")).split("\n")[0]);
}

describe("the embedded server", () => {
  it("keeps its data between starts", async () => {
    const first = await start();
    await query(first, "create table kept as select 7 as number");
    await stop(first);
    expect(await query(await start(), "select number from kept")).toEqual([{ number: 7 }]);
  });

  it("listens on this machine only, and keeps its password unreadable for other users", async () => {
    const server = await start();
    expect(await query(server, "show listen_addresses")).toEqual([{ listen_addresses: "127.0.0.1" }]);
    expect((await readdir(folder)).toSorted()).toEqual(["postgres", "postgres.password"]);
    const file = await stat(join(folder, "postgres.password"));
    expect(file.mode & 0o777).toBe(0o600);
    const url = new URL(server.url);
    url.password = "guessed";
    await expect(query({ url: url.href }, "select 1")).rejects.toThrow("password authentication failed");
  });

  it("is used by a role without superuser rights, in a folder closed to other users", async () => {
    const server = await start();
    const [role] = await query(server, "select rolname, rolsuper from pg_roles where rolname = current_user");
    expect(role).toEqual({ rolname: "tollgate_service", rolsuper: false });
    await expect(query(server, "copy (select 1) to program 'true'")).rejects.toThrow("permission denied");
    expect((await stat(folder)).mode & 0o777).toBe(0o700);
  });

  it("keeps the mode of a folder that other users share", async () => {
    await mkdir(folder, { mode: 0o711 });
    await writeFile(join(folder, "another-file"), "");
    await start();
    expect((await stat(folder)).mode & 0o777).toBe(0o711);
  });

  it("takes over a data folder of release 1.0.0, in which the superuser owns everything", async () => {
    const first = await start();
    const asSuperuser = { url: first.superuserUrl };
    await query(asSuperuser, "alter database tollgate owner to tollgate");
    const database = openDatabase({ url: first.superuserUrl, poolSize: 1, statementTimeoutMs: 60_000 });
    await migrate(database);
    await database("company").insert({ key: "acme" });
    await ensurePartitions(database, "audit_action", new Set([20_000]));
    await database.destroy();
    await query(asSuperuser, "drop role tollgate_service");
    await stop(first);

    const second = openDatabase({ url: (await start()).url, poolSize: 2, statementTimeoutMs: 60_000 });
    await migrate(second);
    await second("company").insert({ key: "other" });
    await second.raw("alter table company add column fresh text");
    await ensurePartitions(second, "audit_action", new Set([20_000, 20_001]));
    await dropPartitions(second, "audit_action", 20_001);
    expect((await second("company_total").first()).total).toBe(2);
    await second.destroy();
  });

  it("installs no signal handlers in the process", async () => {
    const signals = ["SIGINT", "SIGTERM", "SIGHUP", "exit", "beforeExit"];
    const before = signals.map((signal) => process.listenerCount(signal));
    await start();
    expect(signals.map((signal) => process.listenerCount(signal))).toEqual(before);
  });

  it("reports its end when it ends by itself, and not when it is stopped", async () => {
    const onExit = vi.fn<() => void>();
    const server = await start(onExit);
    await stop(server);
    expect(onExit).not.toHaveBeenCalled();
    const second = await start(onExit);
    process.kill(await postmaster(), "SIGQUIT");
    await vi.waitFor(() => expect(onExit).toHaveBeenCalledOnce(), 5000);
    await stop(second);
  });
});

describe("a data folder", () => {
  it("works below a folder that only its owner can enter, such as /root", async () => {
    await chmod(parent, 0o700);
    const server = await start();
    expect(await query(server, "create table kept as select 7 as number")).toEqual([]);
    await stop(server);
    expect(await query(await start(), "select number from kept")).toEqual([{ number: 7 }]);
  });

  it("is refused in one line that names the process when another process uses it", async () => {
    const separate = await startElsewhere();
    await expect(start()).rejects.toThrow(
      `${folder} is in use by process ${separate.pid}: stop it, or set another DATA_DIR`,
    );
    expect(await query(separate, "select 1 as one")).toEqual([{ one: 1 }]);
  });

  it("gets one server when two start at the same time", async () => {
    const results = await Promise.allSettled([start(), start()]);
    expect(results.map(({ status }) => status).toSorted()).toEqual(["fulfilled", "rejected"]);
    expect(results.find(({ status }) => status === "rejected")).toMatchObject({
      reason: { message: expect.stringContaining("is in use by process") },
    });
  });

  it("is taken over with its running server after its process was killed", async () => {
    const separate = await startElsewhere();
    await query(separate, "create table kept as select 7 as number");
    await separate.kill();
    expect(await query(await start(), "select number from kept")).toEqual([{ number: 7 }]);
  });

  it("keeps committed data after its server was killed", async () => {
    const separate = await startElsewhere();
    await query(separate, "create table kept as select 7 as number");
    process.kill(await postmaster(), "SIGKILL");
    await separate.kill();
    expect(await query(await start(), "select number from kept")).toEqual([{ number: 7 }]);
  });

  it("starts when its recorded process id now belongs to another program", async () => {
    await stop(await start());
    const stale = `${process.pid}\n${folder}/postgres\n1700000000\n1\n\n127.0.0.1\n`;
    await writeFile(join(folder, "postgres", "postmaster.pid"), stale);
    expect(await query(await start(), "select 1 as one")).toEqual([{ one: 1 }]);
  });

  it.each(["resetAndDestroy", "destroy"] as const)(
    "starts after a dying server ended the first connection by %s",
    async (end) => {
      await stop(await start());
      // PostgreSQL asks only for processes of its own user.
      const { uid, gid } = await stat(join(folder, "postgres"));
      const dying = spawn("sleep", ["60"], process.getuid?.() === 0 ? { uid, gid } : {});
      children.push(dying);
      const listener = createServer((socket) => {
        socket[end]();
        listener.close();
        dying.kill();
      }).listen(0, "127.0.0.1");
      await once(listener, "listening");
      const { port } = listener.address() as AddressInfo;
      const recorded = `${dying.pid}\n${folder}/postgres\n1700000000\n${port}\n\n127.0.0.1\n`;
      await writeFile(join(folder, "postgres", "postmaster.pid"), recorded);
      expect(await query(await start(), "select 1 as one")).toEqual([{ one: 1 }]);
    },
  );

  it("that PostgreSQL cannot read is refused with the place of the reason", async () => {
    await stop(await start());
    await writeFile(join(folder, "postgres", "PG_VERSION"), "9.6\n");
    await expect(start()).rejects.toThrow(
      `the embedded PostgreSQL does not start; its log is ${folder}/postgres/server.log`,
    );
  });
});
