import type { Worker } from "node:cluster";
import { setTimeout as wait } from "node:timers/promises";
import { type CollectedMetric, formatMetrics, keepCounts, mergeMetrics } from "../metrics/collect.ts";

/** The parent process asks with `readMetrics`, the number of the request. The worker answers with both. */
interface Question {
  readonly readMetrics?: number;
}
interface Answer {
  readonly readMetrics?: number;
  readonly metrics?: readonly CollectedMetric[];
  /** The message of workers.ts: from here on the worker answers. */
  readonly started?: object;
}

export interface WorkerMetrics {
  /** Includes a worker that was just forked. */
  add(worker: Worker): void;
  /** Returns the metrics of all workers as text. */
  read(): Promise<string>;
}

/** A worker that takes longer is counted with its previous answer. */
const answerMs = 1000;

/**
 * Collects the metrics of workers in their parent process. The counts of a worker that has exited remain, so counters never
 * fall. What it counted after the last scrape is lost.
 */
export function createWorkerMetrics(): WorkerMetrics {
  const latest = new Map<Worker, readonly CollectedMetric[]>();
  /** The counts of workers that have exited. */
  let kept: Promise<readonly CollectedMetric[]> = Promise.resolve([]);
  const waiting = new Map<string, () => void>();
  let requests = 0;

  function ask(worker: Worker): Promise<unknown> {
    const answered = new Promise<void>((resolve) => waiting.set(`${worker.id} ${requests}`, resolve));
    const question: Question = { readMetrics: requests };
    // A worker that exits meanwhile does not answer.
    worker.send(question, () => undefined);
    return answered;
  }

  return {
    add(worker) {
      worker.on("message", ({ started, metrics, readMetrics }: Answer) => {
        if (started !== undefined) latest.set(worker, []);
        if (metrics === undefined) return;
        latest.set(worker, metrics);
        waiting.get(`${worker.id} ${readMetrics}`)?.();
      });
      worker.once("exit", () => {
        const last = latest.get(worker);
        latest.delete(worker);
        if (last !== undefined) kept = mergeKept(kept, keepCounts(last));
      });
    },
    async read() {
      requests += 1;
      const asked = Promise.all([...latest.keys()].map(ask));
      await Promise.race([asked, wait(answerMs, undefined, { ref: false })]);
      waiting.clear();
      return formatMetrics([await kept, ...latest.values()]);
    },
  };
}

async function mergeKept(kept: Promise<readonly CollectedMetric[]>, counts: readonly CollectedMetric[]) {
  return mergeMetrics([await kept, counts]);
}

/** Answers the questions of the parent process in a worker. */
export function answerMetrics(read: () => Promise<readonly CollectedMetric[]>): void {
  process.on("message", ({ readMetrics }: Question) => {
    if (readMetrics === undefined) return;
    read()
      .then((metrics) => process.send?.({ readMetrics, metrics } satisfies Answer))
      .catch(() => undefined);
  });
}
