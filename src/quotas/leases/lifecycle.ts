import type { SettleLeaseRequest } from "#gen/tollgate/v1/lease_pb.js";
import { conflict, notFound } from "../../shared/errors.ts";
import type { Answer } from "../counters/counters.ts";
import type { Command, Granted, Lease, LeaseState, Meter, MeterState, Rules } from "../counters/engine.ts";
import { type LedgerEntry, toEntry, toHolderText } from "../ledger/entry.ts";
import type { LeaseIds, LeaseKey } from "../ledger/lease-id.ts";
import type { KnownLease } from "../ledger/read.ts";
import { rulesOf } from "../limits/subjects.ts";
import { lateGrantError, type QuotaCaller, type QuotaOptions, requireRoom } from "./acquire.ts";
import type { LeaseView } from "./messages.ts";

export interface LifecycleOptions extends QuotaOptions {
  readonly leaseIds: LeaseIds;
  /** Reads a lease from the ledger. Works for deleted users too. */
  readonly findLease: (key: LeaseKey) => Promise<KnownLease | undefined>;
  /** Reads a lease from the ledger after every server has flushed its queue. */
  readonly findFlushedLease: (key: LeaseKey) => Promise<KnownLease | undefined>;
}

/** A lease after a renewal, settlement or release. */
export interface LeaseChange {
  readonly view: LeaseView;
  readonly meterState: MeterState;
  /** The state before the call. */
  readonly before: LeaseState | undefined;
}

/**
 * Extends a live lease to `ttlMs` from now. Takes an expired lease again if there is room.
 * @throws FAILED_PRECONDITION LEASE_LOST when the lease was settled or released, or has expired and there is no room;
 * UNAVAILABLE when the ledger's queue is full or a durable renewal was not committed in time
 */
export async function renewLease(
  options: LifecycleOptions,
  leaseId: string,
  ttlMs: number,
  caller: QuotaCaller,
): Promise<LeaseChange> {
  requireRoom(options.ledger);
  const target = await locateLease(options, leaseId, caller);
  const presence = options.presence();
  const { answer, sentMs } = await executeOne(options, leaseId, target, { kind: "renew", ...target.granted, ttlMs });
  if (answer.kind === "refused") throw leaseLost("the lease has expired and there is no room to take it again");
  const { lease, meterState, before } = requireDone(answer);
  if (lease.state !== "active") throw leaseLost(`the lease has been ${lease.state}`);
  const entry = toEntry({ ...target, lease, caller, end: { state: "granted" } });
  if (options.durable) {
    // Taking an expired lease again is a new grant, so it is confirmed like one.
    await options.ledger.commit(entry);
    if (!(await presence.confirm(sentMs))) throw lateGrantError();
  } else options.ledger.append(entry);
  return { view: { ...viewOf(target, lease), ttlMs }, meterState, before };
}

/** The operation in the audit log when the settlement names none. */
const defaultOperation = "settle_lease";

/**
 * Charges the actual points and ends the lease. Resolves after the settlement is committed with its usage and its audit
 * action.
 * @throws FAILED_PRECONDITION LEASE_SETTLED_DIFFERENTLY when the lease was settled with other points; UNAVAILABLE when the
 * settlement was not committed in time: a repeated call charges once
 */
export async function settleLease(
  options: LifecycleOptions,
  { leaseId, points = 0, pointKeys, duration, outcome, operation = defaultOperation, server }: SettleLeaseRequest,
  caller: QuotaCaller,
): Promise<LeaseChange> {
  const target = await locateLease(options, leaseId, caller);
  const presence = options.presence();
  const { answer, sentMs } = await executeOne(options, leaseId, target, { kind: "settle", ...target.granted, points });
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

/**
 * Frees the slot and the reserved points of a lease. A settled lease stays settled.
 * @throws UNAVAILABLE when the ledger's queue is full
 */
export async function releaseLease(
  options: LifecycleOptions,
  leaseId: string,
  caller: QuotaCaller,
): Promise<LeaseChange> {
  requireRoom(options.ledger);
  const target = await locateLease(options, leaseId, caller);
  const { answer } = await executeOne(options, leaseId, target, { kind: "release", ...target.granted });
  const { lease, meterState, before } = requireDone(answer);
  if (lease.state === "released") {
    options.ledger.append(toEntry({ ...target, lease, caller, end: { state: "released", endedMs: meterState.nowMs } }));
  }
  return { view: viewOf(target, lease), meterState, before };
}

/**
 * Makes the ledger entry that releases a live or expired lease. Returns undefined when the lease was settled or released.
 */
export async function releasedEntryOf(
  options: LifecycleOptions,
  leaseId: string,
  caller: QuotaCaller,
): Promise<LedgerEntry | undefined> {
  const target = await locateLease(options, leaseId, caller);
  const { answer } = await executeOne(options, leaseId, target, { kind: "leases" });
  if (answer.kind !== "leases") throw new Error(`unexpected answer to leases: ${answer.kind}`);
  const running = answer.leases.find(({ operationId }) => operationId === target.granted.operationId);
  const lease = running ?? (await options.findLease(options.leaseIds.parse(leaseId)))?.lease;
  if (lease === undefined || lease.state === "released" || lease.state === "settled") return undefined;
  return toEntry({ ...target, lease, caller, end: { state: "released", endedMs: answer.meterState.nowMs } });
}

/** A lease with the meter and the user that it belongs to. */
interface LeaseTarget {
  readonly meter: Meter;
  readonly rules: Rules;
  readonly subject: { readonly username: string; readonly companyKey: string };
  readonly granted: Granted;
}

/**
 * Finds the meter and the user of a lease. The ledger is asked first when the id has no signature of these servers: a
 * forged id must not create counters.
 */
async function locateLease(options: LifecycleOptions, leaseId: string, caller: QuotaCaller): Promise<LeaseTarget> {
  const { subjects, byDefault, leaseIds, findLease, findFlushedLease } = options;
  const { proof, ...key } = leaseIds.parse(leaseId);
  const { userId, service, methodGroup, operationId, day } = key;
  let known = proof === undefined ? await findLease(key) : undefined;
  if (proof === undefined && known === undefined) throw notFound("lease", leaseId);
  const granted = { operationId, day, ...(proof && { proof: { ...proof, holder: toHolderText(caller) } }) };
  const meter = { userId, service, methodGroup };
  const subject = await subjects.byId(userId);
  if (subject !== undefined)
    return { meter, rules: rulesOf(subject, service, methodGroup, byDefault), subject, granted };
  // The user may have been deleted before the grant was written.
  known ??= (await findLease(key)) ?? (await findFlushedLease(key));
  if (known === undefined) throw notFound("lease", leaseId);
  const { companyKey, username, lease } = known;
  return { meter, rules: { timezone: lease.timezone, quotas: [] }, subject: { username, companyKey }, granted };
}

async function executeOne(
  { counters }: LifecycleOptions,
  leaseId: string,
  { meter, rules }: LeaseTarget,
  command: Command,
) {
  let sentMs = 0;
  const [answer] = await counters.execute([{ meter, rules, command }], (_answer, _index, ms) => (sentMs = ms));
  if (answer === undefined || answer.kind === "unknown") throw notFound("lease", leaseId);
  return { answer, sentMs };
}

function requireDone(answer: Answer | undefined): {
  lease: Lease;
  meterState: MeterState;
  before: LeaseState | undefined;
} {
  if (answer?.kind !== "done" || answer.lease === undefined)
    throw new Error(`unexpected answer to a lease command: ${answer?.kind}`);
  return { lease: answer.lease, meterState: answer.meterState, before: answer.before };
}

function viewOf({ meter, subject }: LeaseTarget, lease: Lease): LeaseView {
  return { meter, username: subject.username, lease };
}

function settledDifferently(before: number, points: number) {
  return conflict("LEASE_SETTLED_DIFFERENTLY", `the lease has been settled with ${before} points, not ${points}`);
}

function leaseLost(message: string) {
  return conflict("LEASE_LOST", message);
}
