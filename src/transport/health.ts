import type { ServiceImpl } from "@connectrpc/connect";
import { type Health, HealthCheckResponse_ServingStatus as Status } from "#gen/grpc/health/v1/health_pb.js";
import { refusal } from "../shared/errors.ts";

export interface ServerHealth {
  readonly implementation: ServiceImpl<typeof Health>;
  /** Returns the status of the server and of every service: a process serves all of them or none. */
  check(): Status;
  /** Changes the status and notifies watchers. Has no effect after stop(). */
  set(status: typeof Status.SERVING | typeof Status.NOT_SERVING): void;
  /** Changes the status to NOT_SERVING permanently, notifies watchers and ends their streams. */
  stop(): void;
}

/** Implements grpc.health.v1 for the named services and for the server as a whole (""). The first status is SERVING. */
export function createHealth(serviceNames: readonly string[]): ServerHealth {
  const known = new Set(["", ...serviceNames]);
  const wakers = new Set<() => void>();
  let status: Status = Status.SERVING;
  let stopped = false;

  return {
    implementation: {
      async check({ service }) {
        if (!known.has(service)) throw refusal("SERVICE_UNKNOWN", `the server has no service ${service}`);
        return { status };
      },
      async list() {
        return { statuses: Object.fromEntries([...known].map((service) => [service, { status }])) };
      },
      async *watch({ service }, { signal }) {
        let sent: Status | undefined;
        while (!signal.aborted) {
          const current = known.has(service) ? status : Status.SERVICE_UNKNOWN;
          if (current !== sent) {
            sent = current;
            yield { status: current };
          } else if (stopped) {
            return;
          } else {
            await nextChange(signal);
          }
        }
      },
    },
    check: () => status,
    set(next) {
      if (stopped) return;
      status = next;
      wake();
    },
    stop() {
      stopped = true;
      status = Status.NOT_SERVING;
      wake();
    },
  };

  function wake(): void {
    for (const waker of wakers) waker();
  }

  /** Resolves at the next change, or when the watcher leaves. */
  function nextChange(signal: AbortSignal): Promise<void> {
    return new Promise((done) => {
      const waker = () => {
        wakers.delete(waker);
        signal.removeEventListener("abort", waker);
        done();
      };
      wakers.add(waker);
      signal.addEventListener("abort", waker);
    });
  }
}
