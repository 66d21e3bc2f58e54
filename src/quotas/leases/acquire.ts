import type { AcquireQuotaRequest } from "#gen/tollgate/v1/lease_pb.js";
import type { Presence } from "../../postgres/notifications.ts";
import { unavailable } from "../../shared/errors.ts";
import type { Counters } from "../counters/counters.ts";
import type { CounterRequest, MeterState, QuotaLimits } from "../counters/engine.ts";
import { toEntry, toHolderText } from "../ledger/entry.ts";
import type { Ledger } from "../ledger/ledger.ts";
import { meterOf, rulesOf, type Subject, type Subjects } from "../limits/subjects.ts";
import { type LeaseView } from "./messages.ts";
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
  /** What holds on days for which there is no quota: nothing, or one quota without limits. */
  readonly byDefault: readonly QuotaLimits[];
  /** Whether a grant is answered when it is in the ledger, not before. */
  readonly durable: boolean;
  readonly presence: () => Presence;
  /** 0..1, for delays. */
  readonly jitter: () => number;
}

/** A refusal is a value. */
export type Decision =
  | { readonly granted: true; readonly view: LeaseView; readonly meterState: MeterState }
  | { readonly granted: false; readonly asked: RefusedRequest; readonly refused: RefusedQuota };

/** A request alone, in a batch or on a stream. */
export type AcquireRequest = Omit<AcquireQuotaRequest, "$typeName" | "$unknown">;

/** Who asks, for the record. */
export interface QuotaCaller {
  readonly username: string;
  readonly tracecode: string;
}

export const defaultTtlSeconds = 60;
/** How long a caller waits who is refused because PostgreSQL is slow. */
const ledgerRetryMs = 1000;

/**
 * Decides many requests, each by itself, in one round trip; the decisions are in the order of the requests. A grant is
 * on its way to the ledger when this returns, or in it where grants are to be durable. A durable grant is one that no
 * other server has counted without: see docs/decisions/0001-unwritten-grants.md.
 * @throws UNAVAILABLE when the counters do not answer, the ledger is so far behind that it takes nothing more, or a
 * durable grant was not written in time; what was granted then stays granted until it expires, for a repeated request
 */
export async function acquire(
  options: QuotaOptions,
  requests: readonly AcquireRequest[],
  caller: QuotaCaller,
): Promise<Decision[]> {
  const { subjects, counters, ledger, jitter, durable } = options;
  const presence = durable ? options.presence() : undefined;
  requireRoom(ledger);
  const known = await Promise.all(
    requests.map(async ({ username }) => subjects.peek(username) ?? subjects.byName(username)),
  );
  const prepared = requests.map((request, index) => prepare(options, request, known[index], caller));
  const asking = prepared.filter((one) => "ask" in one);
  /** Grants that the engine has given at one time, by that time: they are confirmed together. */
  const rounds = new Map<number, Promise<unknown>[]>();
  const confirmed: Promise<boolean>[] = [];
  /** Places of operations that the ledger has settled; the counters have forgotten them. */
  const settled = new Set<number>();
  const answers = await counters.execute(
    asking.map(({ ask }) => ask),
    (answer, index, askedMs) => {
      // A repeated one too: the server that granted it may have died before it was written.
      if (answer.kind !== "done" || answer.lease?.state !== "active") return;
      const { subject, ask } = asking[index] as Admitted;
      const { lease, degraded = false } = answer;
      const entry = toEntry({ meter: ask.meter, subject, lease, caller, degraded, end: { state: "granted" } });
      if (presence === undefined) return ledger.append(entry);
      const round = rounds.get(askedMs) ?? [];
      if (round.length === 0) confirmed.push(confirm(presence, round, askedMs));
      rounds.set(askedMs, round);
      round.push(ledger.commit(entry).then((settlement) => settlement && settled.add(index)));
    },
  );
  // Not withdrawn: another server may have answered a repeated request with the same lease by now.
  if ((await Promise.all(confirmed)).includes(false)) throw lateGrantError();
  const next = answers.entries();
  return prepared.map((one) => {
    if ("refused" in one) return { granted: false, asked: one.asked, refused: one.refused };
    const { asked, subject, ask, ttlMs } = one;
    const [index, answer] = next.next().value ?? [];
    if (answer?.kind === "refused") {
      return { granted: false, asked, refused: refusalOf(asked, answer.meterState, answer.violated, jitter) };
    }
    if (answer?.kind === "conflict") {
      const { operationId, state, points } = answer.lease;
      const refused = state === "settled" ? refuseSettledOperation(operationId) : refuseOtherPoints(asked, points);
      return { granted: false, asked, refused };
    }
    if (answer?.kind !== "done" || answer.lease === undefined)
      throw new Error(`an acquire was answered ${answer?.kind}`);
    const { lease, meterState, degraded = false } = answer;
    if (settled.has(index ?? -1)) return { granted: false, asked, refused: refuseSettledOperation(lease.operationId) };
    return {
      granted: true,
      meterState,
      view: { meter: ask.meter, username: subject.username, lease, ttlMs, degraded },
    };
  });
}

/** Whether grants are written, and no server has counted without them. */
function confirm(presence: Presence, round: readonly Promise<unknown>[], askedMs: number): Promise<boolean> {
  // In the next microtask, every grant of the round is in it.
  const confirming = Promise.resolve()
    .then(() => Promise.all(round))
    .then(() => presence.confirm(askedMs));
  // ask() may throw before anything waits for this: a rejection without a handler ends the process.
  confirming.catch(() => undefined);
  return confirming;
}

/** A grant that was written so late that another server may have counted without it. */
export function lateGrantError() {
  return unavailable("LEDGER_BEHIND", "the grant was not written in time", ledgerRetryMs);
}

/**
 * Before the counters are asked: what they do is to be written.
 * @throws UNAVAILABLE when the ledger is so far behind that it takes nothing more
 */
export function requireRoom(ledger: Pick<Ledger, "hasRoom">): void {
  if (!ledger.hasRoom()) throw unavailable("LEDGER_BEHIND", "the ledger is behind", ledgerRetryMs);
}

/** Who may not calculate at all is refused before the counters are asked. */
export function checkAdmission(
  { byDefault }: Pick<QuotaOptions, "byDefault">,
  asked: RefusedRequest,
  subject: Subject | undefined,
): { subject: Subject; ask: Omit<CounterRequest, "command"> } | { refused: RefusedQuota } {
  if (subject === undefined) return { refused: refuseUnknownUser(asked) };
  if (!subject.enabled) return { refused: refuseDisabledUser(asked) };
  const { service, methodGroup } = asked;
  const rules = rulesOf(subject, service, methodGroup, byDefault);
  if (rules.quotas.length === 0) return { refused: refuseWithoutQuota(asked) };
  return { subject, ask: { meter: meterOf(subject, service, methodGroup), rules } };
}

interface Admitted {
  readonly asked: RefusedRequest;
  readonly subject: Subject;
  readonly ask: CounterRequest;
  readonly ttlMs: number;
}

function prepare(
  options: QuotaOptions,
  request: AcquireRequest,
  subject: Subject | undefined,
  caller: QuotaCaller,
): Admitted | { readonly asked: RefusedRequest; readonly refused: RefusedQuota } {
  const { points, operationId, ttlSeconds = defaultTtlSeconds, tracecode = caller.tracecode } = request;
  const admitted = checkAdmission(options, request, subject);
  if ("refused" in admitted) return { asked: request, refused: admitted.refused };
  const ttlMs = ttlSeconds * 1000;
  const { companyKey } = admitted.subject;
  const holder = toHolderText({ tracecode, username: caller.username, companyKey });
  const command = { kind: "acquire" as const, operationId: operationId.toLowerCase(), points, ttlMs, holder };
  return { asked: request, subject: admitted.subject, ask: { ...admitted.ask, command }, ttlMs };
}
