import cluster, { type Worker } from "node:cluster";
import { once } from "node:events";
import { setTimeout as wait } from "node:timers/promises";
import type { Logger } from "pino";
import type { Started } from "./app.ts";
import { createWorkerMetrics } from "./worker-metrics.ts";

/** The message that a worker sends to its parent process when it accepts calls. */
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
  /** The report of the first worker. */
  readonly started: Started;
  /** Drains all workers. Resolves when they have exited, with the highest of their exit codes. */
  stop(): Promise<number>;
  /** Returns the metrics of all workers as text. */
  readMetrics(): Promise<string>;
}

/** The delay before a restart. It doubles each time that a worker exits early. */
const restartMs = { first: 100, most: 30_000 };
/** A worker that exits after this time is restarted after the first delay again. */
const steadyMs = 60_000;
/** The exit code of a worker that a signal has killed. */
const killedCode = 1;

/**
 * Runs this program in `count` worker processes on one port. This process accepts the connections and distributes them.
 * A worker that exits is restarted.
 * @throws Error when a worker exits during the start; the worker has printed the reason
 */
export async function startWorkers({ count, logger, endMs }: WorkersOptions): Promise<Workers> {
  let stopping = false;
  let stopped: Promise<number> | undefined;
  const metrics = createWorkerMetrics();
  try {
    // The first worker starts alone: it migrates the tables, and an error of the start is printed once.
    const started = await begin();
    await Promise.all(Array.from({ length: count - 1 }, begin));
    return { started, stop, readMetrics: metrics.read };
  } catch (error) {
    await stop();
    throw error;
  }

  function fork(): Worker {
    const worker = cluster.fork();
    metrics.add(worker);
    return worker;
  }

  async function begin(): Promise<Started> {
    const worker = fork();
    const started = await served(worker);
    keep(worker, restartMs.first);
    return started;
  }

  function keep(worker: Worker, delayMs: number): void {
    const since = Date.now();
    worker.once("exit", (code, signal) => {
      if (stopping) return;
      const isSteady = Date.now() - since > steadyMs;
      logger.error({ pid: worker.process.pid, code, signal }, "worker exited; restarting");
      void restart(isSteady ? restartMs.first : delayMs);
    });
  }

  async function restart(delayMs: number): Promise<void> {
    await wait(delayMs, undefined, { ref: false });
    if (!stopping) keep(fork(), Math.min(2 * delayMs, restartMs.most));
  }

  function stop(): Promise<number> {
    stopping = true;
    stopped ??= endAll(endMs);
    return stopped;
  }
}

/** Reports to the parent process that this worker accepts calls. */
export function reportServing(started: Started): void {
  process.send?.({ started } satisfies Serving);
}

function all(): Worker[] {
  return Object.values(cluster.workers ?? {}).filter((worker) => worker !== undefined);
}

function served(worker: Worker): Promise<Started> {
  return new Promise((resolve, reject) => {
    worker.once("message", ({ started }: Serving) => resolve(started));
    worker.once("exit", () => reject(new Error("a worker exited during its start")));
  });
}

async function endAll(endMs: number): Promise<number> {
  const ends = all().map(async (worker) => {
    const exited = once(worker, "exit");
    worker.process.kill("SIGTERM");
    const timer = setTimeout(() => worker.process.kill("SIGKILL"), endMs);
    const [code, signal] = (await exited) as [code: number | null, signal: NodeJS.Signals | null];
    clearTimeout(timer);
    // The signal kills a worker only before it handles signals: it has no work to lose then.
    return code ?? (signal === "SIGTERM" ? 0 : killedCode);
  });
  return Math.max(0, ...(await Promise.all(ends)));
}
