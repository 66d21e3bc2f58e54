import { type ChildProcess, execFile, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { vi } from "vitest";
import { freePort } from "./port.ts";

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
  /** Adds to the points that the counters of a meter have used on their day, without a charge. `key` ends in `:state`. */
  addDayUsed(key: string, points: number): void;
  /** Stops the server from answering, with its connections open, until `resume`. */
  pause(): void;
  resume(): void;
}

/** Starts an empty Redis in memory; uses the one of REDIS_URL where redis-server is not installed. `more`: its options. */
export async function startRedis(more: readonly string[] = []): Promise<TestRedis> {
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
      addDayUsed: unsupported,
      pause: unsupported,
      resume: unsupported,
    };
  }
  const port = await freePort();
  let server = await start(port, more);
  const kill = () => end(server);
  return {
    url: `redis://127.0.0.1:${port}`,
    kill,
    flush: async () => void command(port, "flushall"),
    send: (...words) => command(port, ...words),
    keys: () => command(port, "keys", "*").split("\n").toSorted(),
    addDayUsed: (key, points) => void command(port, "eval", addDayUsedScript, "1", key, String(points)),
    pause: () => void server.kill("SIGSTOP"),
    resume: () => void server.kill("SIGCONT"),
    restart: async () => {
      await kill();
      server = await start(port, more);
    },
  };
}

/** The points used on the day are the fourth word: see meter.lua. */
const addDayUsedScript = `
  local words = {}
  for word in string.gmatch(redis.call('HGET', KEYS[1], 's'), '%S+') do words[#words + 1] = word end
  words[4] = string.format('%d', words[4] + ARGV[1])
  redis.call('HSET', KEYS[1], 's', table.concat(words, ' '))`;

export interface TestRedisCluster {
  readonly url: string;
  readonly nodes: readonly number[];
  /** Ends the master that has the slot of this key; its replica takes over after a second. */
  killMasterOf(key: string): Promise<void>;
  /** Begins to move the slot of this key to another master, as a resharding does. */
  beginSlotMove(key: string): Promise<SlotMove>;
  kill(): Promise<void>;
}

/** A slot that is on two masters. */
export interface SlotMove {
  /** Moves one key of the slot. Returns false if none is left. */
  moveKey(): Promise<boolean>;
  /** Moves the other keys, and gives the slot to the new master. */
  finish(): Promise<void>;
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
  const masterOf = (key: string) => {
    const slot = Number(command(nodes[0] ?? 0, "cluster", "keyslot", key));
    const masters = command(nodes[0] ?? 0, "cluster", "nodes")
      .split("\n")
      .filter((line) => /myself,master|master -/.test(line))
      .map((line) => line.split(" "));
    const has = (range: string) => {
      const [from = -1, to = from] = range.split("-").map(Number);
      return from <= slot && slot <= to;
    };
    const portOf = (words: readonly string[] = []) => Number(/:(\d+)@/.exec(words[1] ?? "")?.[1]);
    const owner = masters.find((words) => words.slice(8).some(has));
    return { slot, port: portOf(owner), others: masters.filter((words) => words !== owner).map(portOf) };
  };
  return {
    url: `redis+cluster://${addresses.slice(0, 2).join(",")}`,
    nodes,
    killMasterOf: (key) => end(servers[nodes.indexOf(masterOf(key).port)] as ChildProcess),
    beginSlotMove: async (key) => {
      const { slot, port: from, others } = masterOf(key);
      const to = others[0] ?? 0;
      const [fromId, toId] = await Promise.all([from, to].map((port) => send(port, "cluster", "myid")));
      await send(to, "cluster", "setslot", slot, "importing", fromId);
      await send(from, "cluster", "setslot", slot, "migrating", toId);
      const moveKey = async () => {
        const moved = await send(from, "cluster", "getkeysinslot", slot, 1);
        if (moved !== "") await send(from, "migrate", "127.0.0.1", to, moved, 0, 1000);
        return moved !== "";
      };
      return {
        moveKey,
        finish: async () => {
          while (await moveKey());
          for (const port of [to, from, ...others.slice(1)]) await send(port, "cluster", "setslot", slot, "node", toId);
        },
      };
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

/** Sends a command while this process goes on with other work. @throws Error for an error of Redis */
async function send(port: number, ...words: readonly (string | number | undefined)[]): Promise<string> {
  const { stdout } = await promisify(execFile)("redis-cli", ["-e", "-p", String(port), ...words.map(String)]);
  return stdout.trim();
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
  let output = "";
  for await (const chunk of server.stdout ?? []) {
    output += String(chunk);
    if (output.includes("Ready to accept connections")) return;
  }
  throw new Error(`redis-server exited before it was ready: ${output}`);
}
