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
export interface LeaseTarget {
  readonly meter: Meter;
  readonly rules: Rules;
  readonly subject: { readonly username: string; readonly companyKey: string };
  readonly granted: Granted;
}

/**
 * Finds the meter and the user of a lease. The ledger is asked first when the id has no signature of these servers: a
 * forged id must not create counters.
 * @throws INVALID_REQUEST when the text is not a lease id; LEASE_NOT_FOUND when there is no such lease
 */
export async function locateLease(
  options: LifecycleOptions,
  leaseId: string,
  caller: QuotaCaller,
): Promise<LeaseTarget> {
  const { subjects, byDefault, leaseIds, findLease, findFlushedLease } = options;
  const { proof, ...key } = leaseIds.parse(leaseId);
  const { userId, service, methodGroup, operationId, day } = key;
  // The other server may not have written a grant of the last 50 ms.
  let known = proof === undefined ? ((await findLease(key)) ?? (await findFlushedLease(key))) : undefined;
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

/** Returns the lease of an answer to a command that a live lease always accepts. */
export function requireDone(answer: Answer | undefined): {
  lease: Lease;
  meterState: MeterState;
  before: LeaseState | undefined;
} {
  if (answer?.kind !== "done" || answer.lease === undefined)
    throw new Error(`unexpected answer to a lease command: ${answer?.kind}`);
  return { lease: answer.lease, meterState: answer.meterState, before: answer.before };
}

/** Returns a lease with the meter and the user of its target. */
export function viewOf({ meter, subject }: LeaseTarget, lease: Lease): LeaseView {
  return { meter, username: subject.username, lease };
}

function leaseLost(message: string) {
  return conflict("LEASE_LOST", message);
}
