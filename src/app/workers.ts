import cluster, { type Worker } from "node:cluster";
import { once } from "node:events";
import { setTimeout as wait } from "node:timers/promises";
import type { Logger } from "pino";
import type { Started } from "./app.ts";

/** What a worker tells the process that started it: that it serves, and how. */
interface Serving {
  readonly started: Started;
}

export interface WorkersOptions {
  readonly count: number;
  readonly logger: Logger;
  /** How long a worker may take to end after SIGTERM before it is killed. */
  readonly endMs: number;
}

export interface Workers {
  /** What the first of them reports. */
  readonly started: Started;
  /** Tells all of them to drain, and resolves when they have ended, with the highest of their exit codes. */
  stop(): Promise<number>;
}

/** A worker that falls again and again is started again ever more rarely. */
const restartMs = { first: 100, most: 30_000 };
/** Who has served for so long has not fallen over its own start. */
const steadyMs = 60_000;
/** What a worker that a signal has ended counts as. */
const killedCode = 1;

/**
 * Runs this program as many times, on one port: this process accepts the connections and deals them out. A worker that
 * falls is started again.
 * @throws Error when one of them does not come to serve at first; it has said why
 */
export async function startWorkers({ count, logger, endMs }: WorkersOptions): Promise<Workers> {
  let stopping = false;
  let stopped: Promise<number> | undefined;
  try {
    // The first alone: it brings the tables up to date, and what keeps it from serving is said once.
    const started = await begin();
    await Promise.all(Array.from({ length: count - 1 }, begin));
    return { started, stop };
  } catch (error) {
    await stop();
    throw error;
  }

  async function begin(): Promise<Started> {
    const worker = cluster.fork();
    const started = await served(worker);
    keep(worker, restartMs.first);
    return started;
  }

  function keep(worker: Worker, delayMs: number): void {
    const since = Date.now();
    worker.once("exit", (code, signal) => {
      if (stopping) return;
      const isSteady = Date.now() - since > steadyMs;
      logger.error({ pid: worker.process.pid, code, signal }, "a worker has fallen: it is started again");
      void restart(isSteady ? restartMs.first : delayMs);
    });
  }

  async function restart(delayMs: number): Promise<void> {
    await wait(delayMs, undefined, { ref: false });
    if (!stopping) keep(cluster.fork(), Math.min(2 * delayMs, restartMs.most));
  }

  function stop(): Promise<number> {
    stopping = true;
    stopped ??= endAll(endMs);
    return stopped;
  }
}

/** Tells the process that started this one, if one did, that it serves. */
export function tellServing(started: Started): void {
  process.send?.({ started } satisfies Serving);
}

function all(): Worker[] {
  return Object.values(cluster.workers ?? {}).filter((worker) => worker !== undefined);
}

function served(worker: Worker): Promise<Started> {
  return new Promise((resolve, reject) => {
    worker.once("message", ({ started }: Serving) => resolve(started));
    worker.once("exit", () => reject(new Error("a worker does not serve")));
  });
}

async function endAll(endMs: number): Promise<number> {
  const ends = all().map(async (worker) => {
    const exited = once(worker, "exit");
    worker.process.kill("SIGTERM");
    const timer = setTimeout(() => worker.process.kill("SIGKILL"), endMs);
    const [code, signal] = (await exited) as [code: number | null, signal: NodeJS.Signals | null];
    clearTimeout(timer);
    // SIGTERM itself ends a worker only before it serves: it has nothing to lose then.
    return code ?? (signal === "SIGTERM" ? 0 : killedCode);
  });
  return Math.max(0, ...(await Promise.all(ends)));
}
