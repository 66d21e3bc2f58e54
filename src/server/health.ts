import { Code, ConnectError, type ServiceImpl } from "@connectrpc/connect";
import { type Health, HealthCheckResponse_ServingStatus as Status } from "#gen/grpc/health/v1/health_pb.js";

export interface ServerHealth {
  readonly implementation: ServiceImpl<typeof Health>;
  /** Says NOT_SERVING to all who ask and all who watch, whose watches then end. */
  stop(): void;
}

/** grpc.health.v1 for the named services and for the server as a whole (""). */
export function createHealth(serviceNames: readonly string[]): ServerHealth {
  const known = new Set(["", ...serviceNames]);
  const stopped = new AbortController();
  const status = () => (stopped.signal.aborted ? Status.NOT_SERVING : Status.SERVING);

  return {
    implementation: {
      async check({ service }) {
        if (!known.has(service)) throw new ConnectError(`no such service: ${service}`, Code.NotFound);
        return { status: status() };
      },
      async list() {
        return { statuses: Object.fromEntries([...known].map((service) => [service, { status: status() }])) };
      },
      async *watch({ service }, { signal }) {
        yield { status: known.has(service) ? status() : Status.SERVICE_UNKNOWN };
        if (!known.has(service) || !stopped.signal.aborted) await aborted(AbortSignal.any([signal, stopped.signal]));
        if (known.has(service) && !signal.aborted) yield { status: Status.NOT_SERVING };
      },
    },
    stop: () => stopped.abort(),
  };
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((done) => {
    if (signal.aborted) done();
    else signal.addEventListener("abort", () => done(), { once: true });
  });
}
