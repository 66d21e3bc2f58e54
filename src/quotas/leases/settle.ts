import type { SettleLeaseRequest } from "#gen/tollgate/v1/lease_pb.js";
import type { Presence } from "../../postgres/notifications.ts";
import { conflict, notFound } from "../../shared/errors.ts";
import type { Answer } from "../counters/counters.ts";
import { toEntry } from "../ledger/entry.ts";
import type { QuotaCaller } from "./acquire.ts";
import { executeEach } from "./execute-each.ts";
import {
  type LeaseChange,
  type LeaseTarget,
  type LifecycleOptions,
  locateLease,
  requireDone,
  viewOf,
} from "./lifecycle.ts";

/** The result of one settlement. An error is of this settlement alone. */
export type Settled = { readonly change: LeaseChange } | { readonly error: unknown };

/**
 * Charges the actual points of finished calculations and ends their leases, in one round trip to the counters. Results are
 * in the order of the requests. Resolves after each settlement is committed with its usage and its audit action.
 *
 * Errors of a settlement: INVALID_REQUEST or LEASE_NOT_FOUND; FAILED_PRECONDITION LEASE_SETTLED_DIFFERENTLY when the lease
 * was settled with other points; UNAVAILABLE when the settlement was not committed in time: a repeated call charges once.
 * @throws UNAVAILABLE when the counters answer no request
 */
export async function settleLeases(
  options: LifecycleOptions,
  requests: readonly SettleLeaseRequest[],
  caller: QuotaCaller,
): Promise<Settled[]> {
  const results: Settled[] = [];
  const located: { readonly index: number; readonly request: SettleLeaseRequest; readonly target: LeaseTarget }[] = [];
  const targets = await Promise.allSettled(requests.map(({ leaseId }) => locateLease(options, leaseId, caller)));
  for (const [index, found] of targets.entries()) {
    const request = requests[index] as SettleLeaseRequest;
    if (found.status === "fulfilled") located.push({ index, request, target: found.value });
    else results[index] = { error: found.reason };
  }
  if (located.length === 0) return results;
  const presence = options.presence();
  const commits: Promise<Settled>[] = [];
  const answers = await executeEach(
    options.counters,
    located.map(({ request, target: { meter, rules, granted } }) => ({
      meter,
      rules,
      command: { kind: "settle" as const, ...granted, points: request.points ?? 0 },
    })),
    // The commit of a settlement does not wait for the answers of others.
    (answer, place, sentMs) => {
      const { request, target } = located[place] as (typeof located)[number];
      commits[place] = commitSettlement(options, { request, target, caller, answer, presence, sentMs }).then(
        (change) => ({ change }),
        (error: unknown) => ({ error }),
      );
    },
  );
  for (const [place, { index, request }] of located.entries()) {
    const answer = answers[place];
    if (answer?.kind === "failed") results[index] = { error: answer.error };
    else results[index] = (await commits[place]) ?? { error: notFound("lease", request.leaseId) };
  }
  return results;
}

/** The operation in the audit log when the settlement names none. */
const defaultOperation = "settle_lease";

interface Settling {
  readonly request: SettleLeaseRequest;
  readonly target: LeaseTarget;
  readonly caller: QuotaCaller;
  readonly answer: Answer;
  readonly presence: Presence;
  /** When the counters were asked, by performance.now(). */
  readonly sentMs: number;
}

/** Commits a settlement that the counters have charged. */
async function commitSettlement(
  options: LifecycleOptions,
  { request, target, caller, answer, presence, sentMs }: Settling,
): Promise<LeaseChange> {
  const { points = 0, pointKeys, duration, outcome, operation = defaultOperation, server } = request;
  if (answer.kind === "conflict") throw settledDifferently(answer.lease.settledPoints ?? 0, points);
  const { lease, meterState, before } = requireDone(answer);
  const durationMs = duration && Number(duration.seconds) * 1000 + Math.round(duration.nanos / 1e6);
  // A repeated settlement is written again: the server that settled it first may have died before its commit.
  const kept = await options.ledger.commit(
    toEntry({
      ...target,
      lease,
      caller,
      end: { state: "settled", endedMs: meterState.nowMs, points, pointKeys, durationMs, outcome, operation, server },
    }),
  );
  // Another server committed its settlement first.
  if (kept !== undefined && kept.points !== points) throw settledDifferently(kept.points, points);
  // Another server may have primed the counters without this settlement. They are rebuilt at the next request.
  if (!presence.isHeld(sentMs)) await options.counters.forget(target.meter);
  return { view: viewOf(target, lease), meterState, before };
}

function settledDifferently(before: number, points: number) {
  return conflict("LEASE_SETTLED_DIFFERENTLY", `the lease has been settled with ${before} points, not ${points}`);
}
