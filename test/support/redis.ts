import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";

const installed = spawnSync("redis-server", ["--version"]).error === undefined;
const given = process.env.REDIS_URL;
const advice = "install redis-server (Debian: apt-get install redis-server)";

/** Why tests that need a Redis are skipped; empty where they run. `.ci/run` counts a skip as a failure. */
export const noRedis = installed || given !== undefined ? "" : `skipped: ${advice} or set REDIS_URL`;
/** The same for tests that kill it, which they do not to one of somebody else. */
export const noOwnRedis = installed ? "" : `skipped: ${advice}`;

export interface TestRedis {
  readonly url: string;
  /** Ends the server at once, as a failure would. */
  kill(): Promise<void>;
  /** Kills it and starts it anew, with nothing in it. */
  restart(): Promise<void>;
}

/** A Redis of one's own, empty, in memory alone; the one of REDIS_URL where redis-server is not installed. */
export async function startRedis(): Promise<TestRedis> {
  if (!installed && given !== undefined) {
    const ours = () => Promise.reject(new Error(noOwnRedis));
    return { url: given, kill: async () => undefined, restart: ours };
  }
  const port = await freePort();
  let server = await start(port);
  const kill = () => end(server);
  return {
    url: `redis://127.0.0.1:${port}`,
    kill,
    restart: async () => {
      await kill();
      server = await start(port);
    },
  };
}

export interface TestRedisCluster {
  readonly nodes: readonly number[];
  kill(): Promise<void>;
}

/** Three masters on loopback that have all slots between them. */
export async function startRedisCluster(): Promise<TestRedisCluster> {
  const folder = await mkdtemp(join(tmpdir(), "tollgate-cluster-"));
  const nodes = await Promise.all([0, 1, 2].map(() => freePort()));
  const clustered = (port: number) => [
    "--cluster-enabled",
    "yes",
    "--cluster-config-file",
    join(folder, `${port}.conf`),
  ];
  // The bus of a node is by default 10,000 above its port, which need not exist.
  const servers = await Promise.all(
    nodes.map(async (port) => start(port, [...clustered(port), "--cluster-port", String(await freePort())])),
  );
  const addresses = nodes.map((port) => `127.0.0.1:${port}`);
  const made = spawnSync("redis-cli", ["--cluster", "create", ...addresses, "--cluster-yes"], { encoding: "utf8" });
  if (made.status !== 0) throw new Error(`no cluster: ${made.stdout}${made.stderr}`);
  return {
    nodes,
    kill: async () => {
      await Promise.all(servers.map(end));
      await rm(folder, { recursive: true });
    },
  };
}

async function start(port: number, more: readonly string[] = []): Promise<ChildProcess> {
  const memoryOnly = ["--save", "", "--appendonly", "no"];
  const server = spawn("redis-server", ["--port", String(port), "--bind", "127.0.0.1", ...memoryOnly, ...more]);
  await ready(server);
  return server;
}

async function end(server: ChildProcess): Promise<void> {
  if (server.signalCode !== null) return;
  const exited = once(server, "exit");
  server.kill("SIGKILL");
  await exited;
}

async function ready(server: ChildProcess): Promise<void> {
  for await (const chunk of server.stdout ?? []) if (String(chunk).includes("Ready to accept connections")) return;
  throw new Error("redis-server has ended before it was ready");
}

async function freePort(): Promise<number> {
  const probe = createServer().listen(0, "127.0.0.1");
  await once(probe, "listening");
  const address = probe.address();
  probe.close();
  return typeof address === "object" && address !== null ? address.port : 0;
}
