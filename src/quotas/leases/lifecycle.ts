import type { SettleLeaseRequest } from "#gen/tollgate/v1/lease_pb.js";
import { conflict, notFound } from "../../shared/errors.ts";
import type { Answer } from "../counters/counters.ts";
import type { Command, Granted, Lease, LeaseState, Meter, MeterState, Rules } from "../counters/engine.ts";
import { type LedgerEntry, toEntry, toHolderText } from "../ledger/entry.ts";
import type { LeaseIds, LeaseKey } from "../ledger/lease-id.ts";
import type { KnownLease } from "../ledger/read.ts";
import { rulesOf } from "../limits/subjects.ts";
import { lateGrantError, type QuotaCaller, type QuotaOptions, requireRoom } from "./acquire.ts";
import { type LeaseView } from "./messages.ts";

export interface LifecycleOptions extends QuotaOptions {
  readonly leaseIds: LeaseIds;
  /** The lease as the ledger has it: all that is known of one whose user is gone. */
  readonly findLease: (key: LeaseKey) => Promise<KnownLease | undefined>;
  /** The same, after every server has written what it holds. */
  readonly findFlushedLease: (key: LeaseKey) => Promise<KnownLease | undefined>;
}

/** A lease after a call. */
export interface Ended {
  readonly view: LeaseView;
  readonly meterState: MeterState;
  /** What it was before the call. */
  readonly before: LeaseState | undefined;
}

/**
 * @throws FAILED_PRECONDITION LEASE_LOST when the lease has ended, or has expired and finds no room; UNAVAILABLE when the
 * ledger is so far behind that it takes nothing more, or where grants are to be durable has not written it in time
 */
export async function renew(
  options: LifecycleOptions,
  leaseId: string,
  ttlMs: number,
  caller: QuotaCaller,
): Promise<Ended> {
  requireRoom(options.ledger);
  const place = await locate(options, leaseId, caller);
  const presence = options.presence();
  const { answer, askedMs } = await ask(options, leaseId, place, { kind: "renew", ...place.granted, ttlMs });
  if (answer.kind === "refused") throw leaseLost("the lease has expired and there is no room to take it again");
  const { lease, meterState, before } = done(answer);
  if (lease.state !== "active") throw leaseLost(`the lease has been ${lease.state}`);
  const entry = toEntry({ ...place, lease, caller, end: { state: "granted" } });
  if (options.durable) {
    // An expired lease that is taken again is a grant as any other.
    await options.ledger.commit(entry);
    if (!(await presence.confirm(askedMs))) throw lateGrantError();
  } else options.ledger.append(entry);
  return { view: { ...viewOf(place, lease), ttlMs }, meterState, before };
}

/** What the audit log calls a calculation of which nothing else is told. */
const defaultOperation = "settle_lease";

/** Resolves when the settlement is durable. */
export async function settle(
  options: LifecycleOptions,
  { leaseId, points = 0, pointKeys, duration, outcome, operation = defaultOperation, server }: SettleLeaseRequest,
  caller: QuotaCaller,
): Promise<Ended> {
  const place = await locate(options, leaseId, caller);
  const presence = options.presence();
  const { answer, askedMs } = await ask(options, leaseId, place, { kind: "settle", ...place.granted, points });
  if (answer.kind === "conflict") throw settledDifferently(answer.lease.settledPoints ?? 0, points);
  const { lease, meterState, before } = done(answer);
  const durationMs = duration && Number(duration.seconds) * 1000 + Math.round(duration.nanos / 1e6);
  // A repeated one too: the server that settled it may have died before it was written.
  const kept = await options.ledger.commit(
    toEntry({
      ...place,
      lease,
      caller,
      end: { state: "settled", endedMs: meterState.nowMs, points, pointKeys, durationMs, outcome, operation, server },
    }),
  );
  // Another server settled it, and its entry was first.
  if (kept !== undefined && kept.points !== points) throw settledDifferently(kept.points, points);
  // Another server may have made the counters again without it.
  if (!presence.isHeld(askedMs)) await options.counters.forget(place.meter);
  return { view: viewOf(place, lease), meterState, before };
}

/**
 * Gives back what a lease holds; one that is settled stays as it is.
 * @throws UNAVAILABLE when the ledger is so far behind that it takes nothing more
 */
export async function release(options: LifecycleOptions, leaseId: string, caller: QuotaCaller): Promise<Ended> {
  requireRoom(options.ledger);
  const place = await locate(options, leaseId, caller);
  const { answer } = await ask(options, leaseId, place, { kind: "release", ...place.granted });
  const { lease, meterState, before } = done(answer);
  if (lease.state === "released") {
    options.ledger.append(toEntry({ ...place, lease, caller, end: { state: "released", endedMs: meterState.nowMs } }));
  }
  return { view: viewOf(place, lease), meterState, before };
}

/**
 * How a lease is to be ended, as the ledger will have it: one that runs, or has expired and may be taken again; undefined
 * for one that has ended.
 */
export async function releasedEntryOf(
  options: LifecycleOptions,
  leaseId: string,
  caller: QuotaCaller,
): Promise<LedgerEntry | undefined> {
  const place = await locate(options, leaseId, caller);
  const { answer } = await ask(options, leaseId, place, { kind: "leases" });
  if (answer.kind !== "leases") throw new Error(`a list was answered ${answer.kind}`);
  const running = answer.leases.find(({ operationId }) => operationId === place.granted.operationId);
  const lease = running ?? (await options.findLease(options.leaseIds.parse(leaseId)))?.lease;
  if (lease === undefined || lease.state === "released" || lease.state === "settled") return undefined;
  return toEntry({ ...place, lease, caller, end: { state: "released", endedMs: answer.meterState.nowMs } });
}

/** Where a lease's counters are. */
interface Place {
  readonly meter: Meter;
  readonly rules: Rules;
  readonly subject: { readonly username: string; readonly companyKey: string };
  readonly granted: Granted;
}

/**
 * An id that these servers have not signed is looked up in the ledger before anything else is asked: a forged one makes
 * no counters.
 */
async function locate(options: LifecycleOptions, leaseId: string, caller: QuotaCaller): Promise<Place> {
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

async function ask({ counters }: LifecycleOptions, leaseId: string, { meter, rules }: Place, command: Command) {
  let askedMs = 0;
  const [answer] = await counters.execute([{ meter, rules, command }], (_answer, _index, ms) => (askedMs = ms));
  if (answer === undefined || answer.kind === "unknown") throw notFound("lease", leaseId);
  return { answer, askedMs };
}

function done(answer: Answer | undefined): { lease: Lease; meterState: MeterState; before: LeaseState | undefined } {
  if (answer?.kind !== "done" || answer.lease === undefined) throw new Error(`a lease was answered ${answer?.kind}`);
  return { lease: answer.lease, meterState: answer.meterState, before: answer.before };
}

function viewOf({ meter, subject }: Place, lease: Lease): LeaseView {
  return { meter, username: subject.username, lease };
}

function settledDifferently(before: number, points: number) {
  return conflict("LEASE_SETTLED_DIFFERENTLY", `the lease has been settled with ${before} points, not ${points}`);
}

function leaseLost(message: string) {
  return conflict("LEASE_LOST", message);
}
