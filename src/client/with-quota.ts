import type { MessageInitShape } from "@bufbuild/protobuf";
import { durationFromMs, durationMs } from "@bufbuild/protobuf/wkt";
import { type Client, ConnectError } from "@connectrpc/connect";
import {
  type AcquireQuotaRequestSchema,
  Lease_State,
  Outcome_Name,
  type QuotaService,
} from "#gen/tollgate/v1/lease_pb.js";
import { keepAlive, type Renewal } from "./keep-alive.ts";
import { type Clock, type RetryOptions, retrying, systemClock } from "./retry.ts";

export type { Clock } from "./retry.ts";

export type QuotaRequest = Omit<MessageInitShape<typeof AcquireQuotaRequestSchema>, "operationId" | "$typeName"> & {
  /** The same in every retry of the operation. Absent: one is made. */
  readonly operationId?: string;
};

/** What a calculation took, beside its result. */
export interface Calculated<Result> {
  readonly result: Result;
  /** The points that were sent. */
  readonly points: number;
  /** 64-bit hashes of the points, by which unique ones are counted. */
  readonly pointKeys?: readonly bigint[];
}

export interface QuotaCallOptions {
  /** Metadata of every call: the token. */
  readonly headers?: Headers | Record<string, string>;
  /** Ends the wait for a quota, and is passed on to the calculation. */
  readonly signal?: AbortSignal;
  /** The longest wait for a refused quota to be free; a longer one is the caller's error. Default: 5,000. */
  readonly maxWaitMs?: number;
  /** How long calls that fail on their way are retried. Default: 60,000. */
  readonly retryForMs?: number;
  /** How long one attempt may take before it is retried. Default: 10,000. */
  readonly attemptTimeoutMs?: number;
  /**
   * Renews from a worker thread: the lease outlives a calculation that blocks the event loop. The thread has its own
   * HTTP connection, to this address: "http://tollgate:8080". Absent: the event loop renews.
   */
  readonly renewFromThread?: { readonly baseUrl: string };
  /** Default: the system's. */
  readonly clock?: Clock;
}

/**
 * The calculation has a result, and the service does not know it: nothing is lost. Settle the lease later, with
 * SettleLease and these points: it may come late and more than once.
 */
export class SettlementError<Result> extends Error {
  override readonly name = "SettlementError";
  readonly result: Result;
  readonly leaseId: string;
  readonly points: number;
  readonly pointKeys: readonly bigint[];

  constructor(leaseId: string, { result, points, pointKeys = [] }: Calculated<Result>, cause: unknown) {
    super(`the lease ${leaseId} was not settled with ${points} points: ${ConnectError.from(cause).message}`, { cause });
    this.result = result;
    this.leaseId = leaseId;
    this.points = points;
    this.pointKeys = pointKeys;
  }
}

const defaultWaitMs = 5000;
const defaultRetryMs = 60_000;
const defaultAttemptMs = 10_000;
/** A lease that could not be released expires by itself: its caller does not wait long for that. */
const releaseForMs = 5000;

/**
 * Runs a calculation under a quota: acquires, renews while it runs, settles when it has a result, releases when it has
 * none. Refusals are waited for where the service says how long (RetryInfo), and calls that fail on their way are
 * retried, all under the same operation_id: an operation is charged once.
 * A lost lease does not stop the calculation: it is settled as if it had kept it.
 * @throws the refusal; the calculation's own error; SettlementError when there is a result that could not be settled
 */
export async function withQuota<Result>(
  client: Client<typeof QuotaService>,
  request: QuotaRequest,
  run: (signal: AbortSignal) => Promise<Calculated<Result>>,
  options: QuotaCallOptions = {},
): Promise<Result> {
  const { headers = {}, signal = never, attemptTimeoutMs: timeoutMs = defaultAttemptMs, clock = systemClock } = options;
  const retry: RetryOptions = {
    clock,
    signal,
    retryForMs: options.retryForMs ?? defaultRetryMs,
    maxWaitMs: options.maxWaitMs ?? defaultWaitMs,
  };
  const asked = { ...request, operationId: request.operationId ?? crypto.randomUUID() };
  const { lease } = await retrying(() => client.acquireQuota(asked, { headers, signal, timeoutMs }), retry);
  if (lease?.state !== Lease_State.ACTIVE) throw notActive(lease?.state);
  const { leaseId, renewInterval } = lease;

  const started = clock.now();
  const renewal = renewInterval && startRenewal(durationMs(renewInterval));
  let calculated: Calculated<Result>;
  try {
    await renewal?.ready;
    calculated = await run(signal);
  } catch (error) {
    const release = () => client.releaseLease({ leaseId }, { headers, timeoutMs });
    // The calculation's error is the caller's. A lease that was not released expires.
    await retrying(release, { ...retry, signal: never, retryForMs: releaseForMs }).catch(() => undefined);
    throw error;
  } finally {
    renewal?.stop();
  }

  const { result, points, pointKeys = [] } = calculated;
  const duration = durationFromMs(Math.round(clock.now() - started));
  const settlement = { leaseId, points, pointKeys: [...pointKeys], duration, outcome: Outcome_Name.SUCCESS };
  try {
    // Not under the caller's signal: what has run is charged, even when its caller has left.
    await retrying(() => client.settleLease(settlement, { headers, timeoutMs }), { ...retry, signal: never });
  } catch (error) {
    throw new SettlementError(leaseId, calculated, error);
  }
  return result;

  function startRenewal(intervalMs: number): Renewal {
    return keepAlive({
      client,
      leaseId,
      ttlSeconds: request.ttlSeconds,
      intervalMs,
      headers,
      clock,
      baseUrl: options.renewFromThread?.baseUrl,
    });
  }
}

const never = new AbortController().signal;

/** A lease that has ended holds no slot: the calculation must not run under it. */
function notActive(state: Lease_State | undefined): Error {
  const name = state === undefined ? "absent" : Lease_State[state];
  return new Error(`the lease must be ACTIVE to run under it, and is ${name}`);
}
