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
  /** The id of the operation, the same in every retry. Default: a new one. */
  readonly operationId?: string;
};

/** The result of a calculation, with its points. */
export interface Calculated<Result> {
  readonly result: Result;
  /** The points that were sent. */
  readonly points: number;
  /** 64-bit hashes of the points. Unique points are counted by them. */
  readonly pointKeys?: readonly bigint[];
}

export interface QuotaCallOptions {
  /** Metadata of every call: the token. */
  readonly headers?: Headers | Record<string, string>;
  /** Aborts the wait for a quota, and is passed to the calculation. */
  readonly signal?: AbortSignal;
  /** The longest wait after a refusal. A refusal with a longer delay is thrown. Default: 5,000. */
  readonly maxWaitMs?: number;
  /** How long transport errors are retried. Default: 60,000. */
  readonly retryForMs?: number;
  /** The timeout of one attempt. Default: 10,000. */
  readonly attemptTimeoutMs?: number;
  /**
   * Renews from a worker thread, so that the lease outlives a calculation that blocks the event loop. The thread opens its
   * own HTTP connection to this address, such as "http://tollgate:8080". Default: the event loop renews.
   */
  readonly renewFromThread?: { readonly baseUrl: string };
  /** Default: the clock of the system. */
  readonly clock?: Clock;
}

/**
 * The calculation has a result, but its settlement failed. Settle the lease later by SettleLease with these points. The
 * call may come late and more than once.
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
/** A release is retried for this long only: the lease expires by itself. */
const releaseForMs = 5000;

/**
 * Runs a calculation under a quota: acquires a lease, renews it during the calculation, settles it after a result and
 * releases it after an error. Retries refusals after the delay of their RetryInfo, and transport errors, all with the same
 * operation_id, so an operation is charged once. A lost lease does not stop the calculation: it is settled like any other.
 * @throws the refusal; the error of the calculation; SettlementError when the result could not be settled
 */
export async function withQuota<Result>(
  client: Client<typeof QuotaService>,
  request: QuotaRequest,
  run: (signal: AbortSignal) => Promise<Calculated<Result>>,
  options: QuotaCallOptions = {},
): Promise<Result> {
  // One for each calculation: Node warns of a signal that many calls wait for.
  const never = new AbortController().signal;
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
    // The error of the calculation is thrown. A lease that was not released expires.
    await retrying(release, { ...retry, signal: never, retryForMs: releaseForMs }).catch(() => undefined);
    throw error;
  } finally {
    renewal?.stop();
  }

  const { result, points, pointKeys = [] } = calculated;
  const duration = durationFromMs(Math.round(clock.now() - started));
  const settlement = { leaseId, points, pointKeys: [...pointKeys], duration, outcome: Outcome_Name.SUCCESS };
  try {
    // Without the signal of the caller: a finished calculation is charged even if the caller has left.
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

/** The error for a lease that is not live: it holds no slot, so the calculation must not run. */
function notActive(state: Lease_State | undefined): Error {
  const name = state === undefined ? "absent" : Lease_State[state];
  return new Error(`the lease must be ACTIVE to run under it, and is ${name}`);
}
