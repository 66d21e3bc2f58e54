import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { vi } from "vitest";

const installed = spawnSync("redis-server", ["--version"]).error === undefined;
const given = process.env.REDIS_URL;
const advice = "install redis-server (Debian: apt-get install redis-server)";

/** The reason to skip tests that need a Redis; empty where one is available. `.ci/run` counts a skip as a failure. */
export const noRedis = installed || given !== undefined ? "" : `skipped: ${advice} or set REDIS_URL`;
/** The reason to skip tests that kill Redis: they never kill the one of REDIS_URL. */
export const noOwnRedis = installed ? "" : `skipped: ${advice}`;

export interface TestRedis {
  readonly url: string;
  /** Kills the server, as a crash does. */
  kill(): Promise<void>;
  /** Kills the server and starts an empty one on the same port. */
  restart(): Promise<void>;
  /** Removes all keys. */
  flush(): Promise<void>;
  /** Sends a command by redis-cli and returns its output. */
  send(...words: readonly string[]): string;
  /** The names of all keys, sorted. */
  keys(): string[];
  /** Stops the server from answering, with its connections open, until `resume`. */
  pause(): void;
  resume(): void;
}

/** Starts an empty Redis in memory; uses the one of REDIS_URL where redis-server is not installed. */
export async function startRedis(): Promise<TestRedis> {
  if (!installed && given !== undefined) {
    const unsupported = () => {
      throw new Error(noOwnRedis);
    };
    return {
      url: given,
      kill: async () => undefined,
      restart: unsupported,
      flush: unsupported,
      send: unsupported,
      keys: unsupported,
      pause: unsupported,
      resume: unsupported,
    };
  }
  const port = await freePort();
  let server = await start(port);
  const kill = () => end(server);
  return {
    url: `redis://127.0.0.1:${port}`,
    kill,
    flush: async () => void command(port, "flushall"),
    send: (...words) => command(port, ...words),
    keys: () => command(port, "keys", "*").split("\n").toSorted(),
    pause: () => void server.kill("SIGSTOP"),
    resume: () => void server.kill("SIGCONT"),
    restart: async () => {
      await kill();
      server = await start(port);
    },
  };
}

export interface TestRedisCluster {
  readonly url: string;
  readonly nodes: readonly number[];
  /** Ends the master that has the slot of this key; its replica takes over after a second. */
  killMasterOf(key: string): Promise<void>;
  kill(): Promise<void>;
}

/** Starts a cluster of three masters on loopback, each with this many replicas. */
export async function startRedisCluster({ replicas = 0 } = {}): Promise<TestRedisCluster> {
  const folder = await mkdtemp(join(tmpdir(), "tollgate-cluster-"));
  const nodes = await Promise.all(Array.from({ length: 3 * (1 + replicas) }, freePort));
  const clustered = (port: number) => [
    "--cluster-enabled",
    "yes",
    "--cluster-config-file",
    join(folder, `${port}.conf`),
    "--cluster-node-timeout",
    "1000",
    "--dir",
    folder,
    "--repl-diskless-sync-delay",
    "0",
  ];
  // By default the cluster bus port is the port plus 10,000, which may exceed 65,535.
  const servers = await Promise.all(
    nodes.map(async (port) => start(port, [...clustered(port), "--cluster-port", String(await freePort())])),
  );
  const addresses = nodes.map((port) => `127.0.0.1:${port}`);
  const create = ["--cluster", "create", ...addresses, "--cluster-replicas", String(replicas), "--cluster-yes"];
  const made = spawnSync("redis-cli", create, { encoding: "utf8" });
  if (made.status !== 0) throw new Error(`no cluster: ${made.stdout}${made.stderr}`);
  const isWhole = () => nodes.every((port) => command(port, "cluster", "info").includes("cluster_state:ok"));
  await vi.waitUntil(isWhole, { timeout: 10_000 });
  const isCopied = (port: number) => !command(port, "info", "replication").includes("master_link_status:down");
  await vi.waitUntil(() => nodes.every(isCopied), { timeout: 10_000 });
  return {
    url: `redis+cluster://${addresses.slice(0, 2).join(",")}`,
    nodes,
    killMasterOf: async (key) => {
      const slot = Number(command(nodes[0] ?? 0, "cluster", "keyslot", key));
      const ranges = command(nodes[0] ?? 0, "cluster", "nodes")
        .split("\n")
        .filter((line) => /myself,master|master -/.test(line));
      const master = ranges.find((line) => {
        const [from = -1, to = -1] = (line.split(" ")[8] ?? "").split("-").map(Number);
        return from <= slot && slot <= to;
      });
      const port = Number(/:(\d+)@/.exec(master ?? "")?.[1]);
      await end(servers[nodes.indexOf(port)] as ChildProcess);
    },
    kill: async () => {
      await Promise.all(servers.map(end));
      await rm(folder, { recursive: true });
    },
  };
}

export interface TestRedisSentinel {
  readonly url: string;
  /** Stops the replication from the master to the replica. */
  partReplica(): Promise<void>;
  /** Ends the master; the Sentinel makes its replica the master after a second. */
  killMaster(): Promise<void>;
  kill(): Promise<void>;
}

/** Starts a master, its replica and one Sentinel on loopback. */
export async function startRedisSentinel(): Promise<TestRedisSentinel> {
  const folder = await mkdtemp(join(tmpdir(), "tollgate-sentinel-"));
  const [master, replica, sentinel] = await Promise.all([freePort(), freePort(), freePort()]);
  const data = ["--dir", folder, "--repl-diskless-sync-delay", "0"];
  const first = await start(master, [...data, "--dbfilename", "master"]);
  const second = await start(replica, [...data, "--dbfilename", "replica", "--replicaof", `127.0.0.1 ${master}`]);
  await vi.waitUntil(() => command(replica, "info", "replication").includes("master_link_status:up"), 10_000);
  const file = join(folder, "sentinel.conf");
  const watched = [
    `monitor main 127.0.0.1 ${master} 1`,
    "down-after-milliseconds main 500",
    "failover-timeout main 2000",
  ];
  await writeFile(
    file,
    [`port ${sentinel}`, "bind 127.0.0.1", ...watched.map((line) => `sentinel ${line}`)].join("\n"),
  );
  const watcher = spawn("redis-server", [file, "--sentinel"]);
  await vi.waitUntil(() => command(sentinel, "sentinel", "replicas", "main").includes(String(replica)), 15_000);
  return {
    url: `redis+sentinel://127.0.0.1:${sentinel}/main`,
    partReplica: async () => {
      command(replica, "config", "set", "masteruser", "unknown_user");
      command(replica, "config", "set", "masterauth", "wrong");
      command(master, "client", "kill", "type", "replica");
      await vi.waitUntil(() => command(replica, "info", "replication").includes("master_link_status:down"), 10_000);
    },
    killMaster: () => end(first),
    kill: async () => {
      await Promise.all([first, second, watcher].map(end));
      await rm(folder, { recursive: true });
    },
  };
}

function command(port: number, ...words: readonly string[]): string {
  return spawnSync("redis-cli", ["-p", String(port), ...words], { encoding: "utf8" }).stdout;
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
  throw new Error("redis-server exited before it was ready");
}

/** Returns a port that was free a moment ago. */
export async function freePort(): Promise<number> {
  const probe = createServer().listen(0, "127.0.0.1");
  await once(probe, "listening");
  const address = probe.address();
  probe.close();
  return typeof address === "object" && address !== null ? address.port : 0;
}
