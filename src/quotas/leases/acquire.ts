import type { AcquireQuotaRequest } from "#gen/tollgate/v1/lease_pb.js";
import type { Presence } from "../../postgres/notifications.ts";
import { unavailable } from "../../shared/errors.ts";
import type { Counters } from "../counters/counters.ts";
import type { CounterRequest, MeterState, QuotaLimits } from "../counters/engine.ts";
import { toEntry, toHolderText } from "../ledger/entry.ts";
import type { Ledger } from "../ledger/ledger.ts";
import { meterOf, rulesOf, type Subject, type Subjects } from "../limits/subjects.ts";
import { executeEach } from "./execute-each.ts";
import type { LeaseView } from "./messages.ts";
import {
  type RefusedQuota,
  type RefusedRequest,
  refusalOf,
  refuseDisabledUser,
  refuseOtherPoints,
  refuseSettledOperation,
  refuseUnknownUser,
  refuseWithoutQuota,
} from "./refusal.ts";

export interface QuotaOptions {
  readonly subjects: Subjects;
  readonly counters: Counters;
  readonly ledger: Ledger;
  /** The quotas of days that have none: empty refuses, one quota without limits allows everything. */
  readonly byDefault: readonly QuotaLimits[];
  /** Whether a grant is answered only after the ledger has committed it. */
  readonly durable: boolean;
  readonly presence: () => Presence;
  /** Returns 0 until before 1. Spreads retry delays. */
  readonly jitter: () => number;
}

/** The outcome of one acquire request. A refusal is a value, not an error. An error concerns this request alone. */
export type Decision =
  | { readonly granted: true; readonly view: LeaseView; readonly meterState: MeterState }
  | { readonly granted: false; readonly request: RefusedRequest; readonly refused: RefusedQuota }
  | { readonly granted: false; readonly error: unknown };

/** One acquire request: a unary call, an item of a batch, or a message of a stream. */
export type AcquireRequest = Omit<AcquireQuotaRequest, "$typeName" | "$unknown">;

/** The service account that calls, recorded with the lease. */
export interface QuotaCaller {
  readonly username: string;
  readonly tracecode: string;
}

export const defaultTtlSeconds = 60;
/** The retry delay of a call that is refused because the ledger is behind. */
const ledgerRetryMs = 1000;

/**
 * Decides independent requests in one round trip to the counters. Decisions are in the order of the requests. When this
 * returns, each grant is queued for the ledger, or committed if `durable`. No other server counts without a durable
 * grant: see docs/decisions/0001-unwritten-grants.md.
 * A request fails alone when its user cannot be read (users of one turn are read together), its counters cannot be
 * rebuilt, or its durable grant is not committed in time. A grant made before the error stays until it expires; a repeated
 * request returns it.
 * @throws UNAVAILABLE when the ledger's queue is full, or the counters answer no request
 */
export async function acquireLeases(
  options: QuotaOptions,
  requests: readonly AcquireRequest[],
  caller: QuotaCaller,
): Promise<Decision[]> {
  const { subjects, counters, ledger, jitter, durable } = options;
  const presence = durable ? options.presence() : undefined;
  requireRoom(ledger);
  const known = await findSubjects(subjects, requests);
  const prepared = requests.map((request, index) => {
    const found = known[index];
    return found !== undefined && "error" in found ? found : prepare(options, request, found, caller);
  });
  const admitted = prepared.filter((item) => "counterRequest" in item);
  /** Grants by the time of the round trip that made them. The grants of a round trip are confirmed together. */
  const rounds = new Map<number, Round>();
  const confirmed: Promise<void>[] = [];
  /** Errors of grants that were not committed in time, by their index. */
  const uncommitted = new Map<number, unknown>();
  /** Indexes of operations that the ledger has settled and the counters no longer remember. */
  const settled = new Set<number>();
  const answers = await executeEach(
    counters,
    admitted.map(({ counterRequest }) => counterRequest),
    (answer, index, sentMs) => {
      // A repeated acquire is written again: the server that granted it may have died before its commit.
      if (answer.kind !== "done" || answer.lease?.state !== "active") return;
      const { subject, counterRequest } = admitted[index] as Admitted;
      const { lease, degraded = false } = answer;
      const entry = toEntry({
        meter: counterRequest.meter,
        subject,
        lease,
        caller,
        degraded,
        end: { state: "granted" },
      });
      if (presence === undefined) return ledger.append(entry);
      const round = rounds.get(sentMs) ?? { indexes: [], commits: [] };
      if (round.indexes.length === 0) confirmed.push(confirm(presence, round, sentMs, uncommitted));
      rounds.set(sentMs, round);
      round.indexes.push(index);
      round.commits.push(
        ledger.commit(entry).then(
          (settlement) => settlement && settled.add(index),
          (error: unknown) => uncommitted.set(index, error),
        ),
      );
    },
  );
  // An uncommitted grant is not withdrawn: another server may have returned the same lease to a repeated request.
  await Promise.all(confirmed);
  const next = answers.entries();
  return prepared.map((item) => {
    if ("error" in item) return { granted: false, error: item.error };
    if ("refused" in item) return { granted: false, request: item.request, refused: item.refused };
    const { request, subject, counterRequest, ttlMs } = item;
    const [index, answer] = next.next().value ?? [];
    if (answer?.kind === "failed") return { granted: false, error: answer.error };
    if (uncommitted.has(index ?? -1)) return { granted: false, error: uncommitted.get(index ?? -1) };
    if (answer?.kind === "refused") {
      return { granted: false, request, refused: refusalOf(request, answer.meterState, answer.violated, jitter) };
    }
    if (answer?.kind === "conflict") {
      const { operationId, state, points } = answer.lease;
      const refused = state === "settled" ? refuseSettledOperation(operationId) : refuseOtherPoints(request, points);
      return { granted: false, request, refused };
    }
    if (answer?.kind !== "done" || answer.lease === undefined)
      throw new Error(`unexpected answer to acquire: ${answer?.kind}`);
    const { lease, meterState, degraded = false } = answer;
    if (settled.has(index ?? -1))
      return { granted: false, request, refused: refuseSettledOperation(lease.operationId) };
    return {
      granted: true,
      meterState,
      view: { meter: counterRequest.meter, username: subject.username, lease, ttlMs, degraded },
    };
  });
}

/** Finds the users of requests, in order. Usually all are cached, and none costs a promise. */
async function findSubjects(
  subjects: Subjects,
  requests: readonly AcquireRequest[],
): Promise<(Subject | { readonly error: unknown } | undefined)[]> {
  const found: (Subject | { readonly error: unknown } | undefined)[] = requests.map(({ username }) =>
    subjects.peek(username),
  );
  const read = async ({ username }: AcquireRequest, index: number) => {
    if (found[index] !== undefined) return;
    found[index] = await subjects.byName(username).catch((error: unknown) => ({ error }));
  };
  if (found.includes(undefined)) await Promise.all(requests.map(read));
  return found;
}

/** The grants of one round trip to the counters. */
interface Round {
  readonly indexes: number[];
  readonly commits: Promise<unknown>[];
}

/** Resolves when the grants of a round are committed. Notes an error for each if a server may have counted without them. */
async function confirm(
  presence: Presence,
  { indexes, commits }: Round,
  sentMs: number,
  uncommitted: Map<number, unknown>,
): Promise<void> {
  // The next microtask runs after the last grant of the round was added.
  await Promise.resolve();
  await Promise.all(commits);
  const error = await presence.confirm(sentMs).then(
    (isConfirmed) => (isConfirmed ? undefined : lateGrantError()),
    (failure: unknown) => failure,
  );
  if (error === undefined) return;
  for (const index of indexes) if (!uncommitted.has(index)) uncommitted.set(index, error);
}

/** The error for a grant that was committed so late that another server may have counted without it. */
export function lateGrantError() {
  return unavailable("LEDGER_BEHIND", "the grant was not written in time", ledgerRetryMs);
}

/**
 * Checks that the ledger can take another entry. Called before the counters change anything.
 * @throws UNAVAILABLE when the ledger's queue is full
 */
export function requireRoom(ledger: Pick<Ledger, "hasRoom">): void {
  if (!ledger.hasRoom()) throw unavailable("LEDGER_BEHIND", "the ledger is behind", ledgerRetryMs);
}

/** Refuses unknown users, disabled users and users without a quota before the counters are called. */
export function checkAdmission(
  { byDefault }: Pick<QuotaOptions, "byDefault">,
  request: RefusedRequest,
  subject: Subject | undefined,
): { subject: Subject; counterRequest: Omit<CounterRequest, "command"> } | { refused: RefusedQuota } {
  if (subject === undefined) return { refused: refuseUnknownUser(request) };
  if (!subject.enabled) return { refused: refuseDisabledUser(request) };
  const { service, methodGroup } = request;
  const rules = rulesOf(subject, service, methodGroup, byDefault);
  if (rules.quotas.length === 0) return { refused: refuseWithoutQuota(request) };
  return { subject, counterRequest: { meter: meterOf(subject, service, methodGroup), rules } };
}

interface Admitted {
  readonly request: RefusedRequest;
  readonly subject: Subject;
  readonly counterRequest: CounterRequest;
  readonly ttlMs: number;
}

function prepare(
  options: QuotaOptions,
  request: AcquireRequest,
  subject: Subject | undefined,
  caller: QuotaCaller,
): Admitted | { readonly request: RefusedRequest; readonly refused: RefusedQuota } {
  const { points, operationId, ttlSeconds = defaultTtlSeconds, tracecode = caller.tracecode } = request;
  const admitted = checkAdmission(options, request, subject);
  if ("refused" in admitted) return { request, refused: admitted.refused };
  const ttlMs = ttlSeconds * 1000;
  const { companyKey } = admitted.subject;
  const holder = toHolderText({ tracecode, username: caller.username, companyKey });
  const command = { kind: "acquire" as const, operationId: operationId.toLowerCase(), points, ttlMs, holder };
  return {
    request,
    subject: admitted.subject,
    counterRequest: { ...admitted.counterRequest, command },
    ttlMs,
  };
}
