import type { Client } from "@connectrpc/connect";
import type { QuotaService } from "#gen/tollgate/v1/lease_pb.js";
import { renewThreadProgram, type ThreadOrder } from "./renew-thread.ts";
import type { Clock } from "./retry.ts";

export interface KeepAliveOptions {
  readonly client: Client<typeof QuotaService>;
  readonly leaseId: string;
  /** Default: that of the service. */
  readonly ttlSeconds: number | undefined;
  /** The renewal interval: a third of the lifetime. */
  readonly intervalMs: number;
  readonly headers: Headers | Record<string, string>;
  readonly clock: Clock;
  /** The address for renewals from a worker thread. Undefined: the event loop renews. */
  readonly baseUrl: string | undefined;
}

export interface Renewal {
  /** Resolves when renewals run, even if the event loop is blocked from then on. */
  readonly ready: Promise<void>;
  stop(): void;
}

/** Renews a lease until stop() is called. A failed attempt is followed by the next one. */
export function keepAlive(options: KeepAliveOptions): Renewal {
  return options.baseUrl === undefined ? renewHere(options) : renewInThread(options, options.baseUrl);
}

function renewHere({ client, leaseId, ttlSeconds, intervalMs, headers, clock }: KeepAliveOptions): Renewal {
  const over = new AbortController();
  const { signal } = over;
  const request = { leaseId, ...(ttlSeconds !== undefined && { ttlSeconds }) };
  const renew = async () => {
    while (!signal.aborted) {
      await clock.wait(intervalMs, signal);
      if (signal.aborted) return;
      // The next attempt may succeed, and a settlement does not need a live lease.
      await client.renewLease(request, { headers, signal, timeoutMs: intervalMs }).catch(() => undefined);
    }
  };
  void renew();
  return { ready: Promise.resolve(), stop: () => over.abort() };
}

interface Thread {
  /** Resolves when the order was sent to a running thread. */
  send(order: ThreadOrder): Promise<void>;
}

/** One thread for all leases of the process, started by the first lease. */
let thread: Thread | undefined;
const active = new Map<number, ThreadOrder>();
let keys = 0;

function renewInThread({ leaseId, ttlSeconds, intervalMs, headers }: KeepAliveOptions, baseUrl: string): Renewal {
  const key = (keys += 1);
  const order: ThreadOrder = {
    kind: "start",
    key,
    url: `${baseUrl.replace(/\/$/, "")}/tollgate.v1.QuotaService/RenewLease`,
    headers: Object.fromEntries(new Headers(headers)),
    body: JSON.stringify({ leaseId, ...(ttlSeconds !== undefined && { ttlSeconds }) }),
    intervalMs,
  };
  active.set(key, order);
  thread ??= startThread();
  const ready = thread.send(order);
  return {
    ready,
    stop: () => {
      active.delete(key);
      void thread?.send({ kind: "stop", key });
    },
  };
}

const restartMs = 1000;

function startThread(): Thread {
  const starting = openWorker();
  return {
    send: async (order) => {
      const worker = await starting;
      // oxlint-disable-next-line unicorn/require-post-message-target-origin -- A thread has none.
      worker.postMessage(order);
    },
  };
}

/** Resolves when the thread runs or has failed. After a failure another thread starts and renews the active leases. */
async function openWorker() {
  // Loaded on use: browsers have no worker_threads.
  const { Worker } = await import("node:worker_threads");
  const worker = new Worker(renewThreadProgram, { eval: true });
  // The thread must not keep the process running.
  worker.unref();
  await new Promise<void>((resolve) => {
    worker.once("message", () => resolve());
    worker.once("error", () => resolve());
    worker.once("exit", () => {
      resolve();
      setTimeout(restart, restartMs).unref();
    });
  });
  return worker;
}

function restart(): void {
  thread = active.size === 0 ? undefined : startThread();
  for (const order of active.values()) void thread?.send(order);
}
