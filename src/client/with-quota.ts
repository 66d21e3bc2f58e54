import { randomUUID } from "node:crypto";
import { setTimeout as wait } from "node:timers/promises";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { durationMs } from "@bufbuild/protobuf/wkt";
import { type Client, Code, ConnectError } from "@connectrpc/connect";
import { RetryInfoSchema } from "#gen/google/rpc/error_details_pb.js";
import { type AcquireQuotaRequestSchema, Outcome_Name, type QuotaService } from "#gen/tollgate/v1/lease_pb.js";

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
  /** The longest wait for a refused quota to be free; a longer one is the caller's error. */
  readonly maxWaitMs?: number;
}

/** How long a settlement is tried again: a service that starts anew is back by then. */
const settleForMs = 60_000;

/**
 * Runs a calculation under a quota: acquires, renews while it runs, settles when it has a result, releases when it has
 * none. Refusals are waited for where the service says how long (RetryInfo), under the same operation_id.
 * A lost lease does not stop the calculation: it is settled as if it had kept it.
 * @throws the refusal; the calculation's own error; or the settlement's, when it could not be told
 */
export async function withQuota<Result>(
  client: Client<typeof QuotaService>,
  request: QuotaRequest,
  run: (signal: AbortSignal) => Promise<Calculated<Result>>,
  { headers = {}, signal = new AbortController().signal, maxWaitMs = 5000 }: QuotaCallOptions = {},
): Promise<Result> {
  const asked = { ...request, operationId: request.operationId ?? randomUUID() };
  const granted = await retrying(maxWaitMs, signal, () => client.acquireQuota(asked, { headers, signal }));
  const leaseId = granted.lease?.leaseId ?? "";
  const renewal = granted.lease?.renewInterval;
  const over = new AbortController();
  const renewing = renewal && keepAlive(durationMs(renewal), over.signal);
  const started = Date.now();
  try {
    const { result, points, pointKeys = [] } = await run(signal);
    const durationMsTaken = Date.now() - started;
    const duration = { seconds: BigInt(Math.floor(durationMsTaken / 1000)), nanos: (durationMsTaken % 1000) * 1e6 };
    const settlement = { leaseId, points, pointKeys: [...pointKeys], duration, outcome: Outcome_Name.SUCCESS };
    // Not under the caller's signal: what was calculated is told, whoever still waits for it.
    await retrying(settleForMs, never, () => client.settleLease(settlement, { headers }));
    return result;
  } catch (error) {
    // After a failed settlement this changes nothing that was settled; without one the lease expires by itself.
    await client.releaseLease({ leaseId }, { headers }).catch(() => undefined);
    throw error;
  } finally {
    over.abort();
    await renewing;
  }

  async function keepAlive(intervalMs: number, ended: AbortSignal): Promise<void> {
    while (!ended.aborted) {
      await wait(intervalMs, undefined, { signal: ended, ref: false }).catch(() => undefined);
      if (ended.aborted) return;
      const { ttlSeconds } = request;
      const renewed = client.renewLease(
        { leaseId, ...(ttlSeconds !== undefined && { ttlSeconds }) },
        { headers, signal: ended },
      );
      // The next one may succeed, and the settlement does not need it.
      await renewed.catch(() => undefined);
    }
  }
}

const never = new AbortController().signal;

/** Tries again for as long as the service says when, and that is within the limit. */
async function retrying<Answer>(limitMs: number, signal: AbortSignal, call: () => Promise<Answer>): Promise<Answer> {
  const deadline = Date.now() + limitMs;
  for (;;) {
    try {
      return await call();
    } catch (error) {
      const delayMs = retryDelayMs(error);
      if (delayMs === undefined || Date.now() + delayMs > deadline) throw error;
      await wait(delayMs, undefined, { signal });
    }
  }
}

function retryDelayMs(error: unknown): number | undefined {
  if (!(error instanceof ConnectError)) return undefined;
  if (error.code !== Code.ResourceExhausted && error.code !== Code.Unavailable) return undefined;
  const delay = error.findDetails(RetryInfoSchema)[0]?.retryDelay;
  return delay && durationMs(delay);
}
