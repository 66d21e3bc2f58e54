import { setTimeout as wait } from "node:timers/promises";
import type { Proxy } from "../../support/proxy.ts";
import type { Random } from "./random.ts";
import { type LinkName, linkNames, type Server, type World } from "./world.ts";

/** A fault that lasts for a while. It is over when the promise resolves. */
export interface Fault {
  readonly kind: string;
  run(context: FaultContext): Promise<void>;
}

export interface FaultContext {
  readonly world: World;
  readonly random: Random;
}

const dayMs = 86_400_000;
/** The maximum number of days that pass: point keys are kept as long. */
const furthestMs = 26 * dayMs;

const lastingMs = ({ random }: FaultContext) => wait(random.between(300, 2500));
const anyServer = ({ world, random }: FaultContext) => random.pick(world.servers);

/** Servers that a fault uses: two concurrent faults never kill or stop the same server. */
const held = new Set<Server>();

async function withServer(context: FaultContext, work: (server: Server) => Promise<void>): Promise<void> {
  const free = context.world.servers.filter((server) => !held.has(server));
  if (free.length === 0) return;
  const server = context.random.pick(free);
  held.add(server);
  try {
    await work(server);
  } finally {
    held.delete(server);
  }
}

const ofServers: Fault[] = [
  {
    kind: "server: kill -9",
    run: (context) =>
      withServer(context, async (server) => {
        await server.process.end("SIGKILL");
        await server.start();
      }),
  },
  {
    kind: "server: SIGTERM",
    run: (context) =>
      withServer(context, async (server) => {
        await server.process.end("SIGTERM");
        await server.start();
      }),
  },
  {
    kind: "server: SIGSTOP",
    run: (context) =>
      withServer(context, async (server) => {
        server.process.process.kill("SIGSTOP");
        await wait(context.random.between(500, 4000));
        server.process.process.kill("SIGCONT");
      }),
  },
];

const redisState = { isStopped: false };

/**
 * Runs a command when Redis is not stopped. Otherwise redis-cli would block this process, and with it the fault that
 * resumes Redis. Nothing is awaited between the check and the command.
 */
async function commandRedis(command: () => unknown): Promise<void> {
  while (redisState.isStopped) await wait(10);
  command();
}

const ofRedis: Fault[] = [
  {
    kind: "redis: FLUSHALL",
    // A second time while servers rebuild the counters.
    async run({ world, random }) {
      for (let times = random.between(1, 6); times > 0; times -= 1) {
        await commandRedis(() => world.redis.flush());
        await wait(random.between(0, 60));
      }
    },
  },
  { kind: "redis: restarted empty", run: ({ world }) => world.redis.restart() },
  {
    kind: "redis: out of memory",
    async run(context) {
      await commandRedis(() => context.world.redis.send("config", "set", "maxmemory", "1"));
      await lastingMs(context);
      await commandRedis(() => context.world.redis.send("config", "set", "maxmemory", "0"));
    },
  },
  { kind: "redis: SCRIPT FLUSH", run: ({ world }) => commandRedis(() => world.redis.send("script", "flush")) },
  {
    kind: "redis: SIGSTOP",
    async run(context) {
      redisState.isStopped = true;
      context.world.redis.pause();
      await lastingMs(context);
      context.world.redis.resume();
      redisState.isStopped = false;
    },
  },
];

const ofPostgres: Fault[] = [
  {
    kind: "postgres: connections terminated",
    run: ({ world }) =>
      world.administer(async (client) => {
        await client.query(
          `select pg_terminate_backend(pid) from pg_stat_activity
           where datname = current_database() and application_name <> 'administrator'`,
        );
      }),
  },
  ...["lease", "audit_action", "usage_day", "audit_pending", "user_account", "counter_store", "charged_day"].map(
    (table) => ({
      kind: `postgres: ${table} locked`,
      run: (context: FaultContext) =>
        context.world.administer(async (client) => {
          await client.query("begin");
          await client.query("set local lock_timeout = '3s'");
          await client.query(`lock table ${table} in access exclusive mode`);
          await lastingMs(context);
          await client.query("rollback");
        }),
    }),
  ),
];

const onLink: Record<string, (proxy: Proxy, context: FaultContext) => unknown> = {
  delayed: (proxy, { random }) => proxy.delay(random.between(20, 400)),
  cut: (proxy) => proxy.cut(),
  "half-closed": (proxy) => proxy.halfClose(),
  "silent on established connections": (proxy) => proxy.blackHole("established"),
  silent: (proxy) => proxy.blackHole("all"),
  "answers lost": (proxy) => proxy.loseAnswers(),
  refused: (proxy) => proxy.refuse(),
};

const ofLinks: Fault[] = linkNames.flatMap((name: LinkName) =>
  Object.entries(onLink).map(([what, begin]) => ({
    kind: `link to ${name}: ${what}`,
    async run(context: FaultContext) {
      const proxy = anyServer(context).links[name];
      await begin(proxy, context);
      await lastingMs(context);
      await proxy.restore();
    },
  })),
);

const ofClocks: Fault[] = [1, -1, 3, -3].map((days) => ({
  kind: `clock: ${days > 0 ? "+" : ""}${days} days`,
  async run(context) {
    const { world } = context;
    await world.moveClock(days * dayMs);
    // Days pass. A clock that was set back is corrected.
    if (days > 0 && world.movedMs() <= furthestMs) return;
    await lastingMs(context);
    await world.moveClock(-days * dayMs);
  },
}));

const ofOneClock: Fault[] = [1, -1, 3, -3].map((days) => ({
  kind: `clock of one server: ${days > 0 ? "+" : ""}${days} days`,
  async run(context) {
    const server = anyServer(context);
    server.skew(days * dayMs);
    await lastingMs(context);
    server.skew(0);
  },
}));

const kinds = [ofServers, ofRedis, ofPostgres, ofLinks, ofClocks, ofOneClock];

/**
 * Returns the given number of faults: each kind in turn, whatever the number of its variants, in an order by the seed.
 * @param only the prefix of the names; empty selects all faults
 */
export function planFaults(count: number, random: Random, only: string): Fault[] {
  const queues = kinds.map((list) => shuffle(list, random).filter(({ kind }) => kind.startsWith(only)));
  const kindOrder = [0, 1, 2, 3, 4, 1, 3, 0, 3, 4, 1, 5, 2, 3].filter((kind) => queues[kind]?.length !== 0);
  const next = (list: Fault[]) => {
    const fault = list.shift() as Fault;
    list.push(fault);
    return fault;
  };
  return Array.from({ length: count }, (_none, index) =>
    next(queues[kindOrder[index % kindOrder.length] as number] as Fault[]),
  );
}

function shuffle<Item>(items: readonly Item[], random: Random): Item[] {
  return items
    .map((item) => ({ item, at: random.next() }))
    .toSorted((left, right) => left.at - right.at)
    .map(({ item }) => item);
}
