import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { chmod, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { freePort } from "./port.ts";

const installed = spawnSync("pgbouncer", ["--version"]).error === undefined;

/** The reason to skip tests that need PgBouncer; empty where it is installed. `.ci/run` counts a skip as a failure. */
export const noPgBouncer = installed ? "" : "skipped: install pgbouncer (Debian: apt-get install pgbouncer)";

export interface PgBouncer {
  /** The address of a database as seen through the pooler. */
  url(direct: string): string;
  stop(): Promise<void>;
}

/** Starts PgBouncer with its default settings in front of the server of a URL, for all of its databases. */
export async function startPgBouncer(server: string, mode: "session" | "transaction"): Promise<PgBouncer> {
  const { hostname, port: serverPort, username, password } = new URL(server);
  const folder = await mkdtemp(join(tmpdir(), "tollgate-pgbouncer-"));
  await chmod(folder, 0o755);
  const port = await freePort();
  const file = join(folder, "pgbouncer.ini");
  const lines = [
    "[databases]",
    `* = host=${hostname} port=${serverPort} user=${username} password=${password}`,
    "[pgbouncer]",
    `pool_mode = ${mode}`,
    "listen_addr = 127.0.0.1",
    `listen_port = ${port}`,
    "unix_socket_dir =",
    "auth_type = any",
  ];
  await writeFile(file, lines.join("\n"));
  // PgBouncer does not run as root.
  const asOther = process.getuid?.() === 0 ? ["-u", "daemon"] : [];
  const child = spawn("pgbouncer", [...asOther, file], { stdio: ["ignore", "ignore", "pipe"] });
  const exited = once(child, "exit");
  await new Promise<void>((done, fail) => {
    let output = "";
    child.stderr.on("data", (text) => (output += String(text)).includes("process up") && done());
    child.once("exit", (code) => fail(new Error(`pgbouncer ended with ${code}: ${output}`)));
  });
  return {
    url(direct) {
      const url = new URL(direct);
      url.host = `127.0.0.1:${port}`;
      return url.href;
    },
    async stop() {
      child.kill("SIGKILL");
      await exited;
      await rm(folder, { recursive: true });
    },
  };
}
