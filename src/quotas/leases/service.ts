import { create, type DescMessage, type Message } from "@bufbuild/protobuf";
import {
  AcquireQuotaRequestSchema,
  type AcquireQuotaResponse,
  type QuotaService,
  type SettleLeaseRequest,
  SettleLeaseRequestSchema,
  type SettleLeaseResponse,
} from "#gen/tollgate/v1/lease_pb.js";
import { notFound } from "../../shared/errors.ts";
import type { Call, Handlers } from "../../shared/handler.ts";
import { type Principal, type Scope, scopeOf } from "../../shared/principal.ts";
import type { RecordWriter } from "../../shared/records.ts";
import type { LedgerEntry } from "../ledger/entry.ts";
import type { LeaseIds } from "../ledger/lease-id.ts";
import { meterOf, parseMethodKey, rulesOf, type Subject } from "../limits/subjects.ts";
import {
  type AcquireRequest,
  acquireLeases,
  checkAdmission,
  type Decision,
  defaultTtlSeconds,
  type QuotaCaller,
} from "./acquire.ts";
import { readBatches } from "./batches.ts";
import { countDecisions, countRefusal, type DecisionCounts } from "./decision-counts.ts";
import { type LeaseChange, type LifecycleOptions, releasedEntryOf, releaseLease, renewLease } from "./lifecycle.ts";
import { toLimitMessages } from "./limit-messages.ts";
import { toHeldLease, toLeaseMessage } from "./messages.ts";
import { refusalOf, toRefusal, toRefusalError } from "./refusal.ts";
import { type Settled, settleLeases } from "./settle.ts";
import { maySee, seesEveryone } from "./visibility.ts";
import { type WatchUsageOptions, watchUsage } from "./watch-usage.ts";

export interface QuotaServiceOptions extends LifecycleOptions, WatchUsageOptions {
  /** Lists the methods for which the ledger has live leases, with or without a quota. */
  readonly findMethods: (userId: number) => Promise<readonly Method[]>;
  /** Whether the scope has a user of that name. Always runs one query. */
  readonly isInScope: (scope: Scope, username: string) => Promise<boolean>;
  readonly leases: RecordWriter<LedgerEntry, LedgerEntry>;
  readonly counts: DecisionCounts;
}

interface Method {
  readonly service: number;
  readonly methodGroup: number;
}

/** The most decisions of one batch, and so the most that a stream reads ahead. */
const maxBatch = 1000;

export function quotaHandlers(options: QuotaServiceOptions): Handlers<typeof QuotaService> {
  const { subjects, counters, byDefault, jitter, findMethods, isInScope, leases, leaseIds, counts } = options;

  /** Another company's user and an unknown name run the same query, so that response times reveal nothing. */
  async function getVisibleSubject(principal: Principal, username: string): Promise<Subject> {
    const isVisible = seesEveryone(principal) || (await isInScope(scopeOf(principal), username));
    const subject = isVisible ? await subjects.byName(username) : undefined;
    if (subject === undefined || !maySee(principal, subject)) throw notFound("user", username);
    return subject;
  }

  const acquire = async (requests: readonly AcquireRequest[], call: Call) =>
    countDecisions(counts, await acquireLeases(options, requests, callerOf(call)));

  const settle = async (requests: readonly SettleLeaseRequest[], call: Call): Promise<Settled[]> => {
    const results = await settleLeases(options, requests, callerOf(call));
    for (const settled of results) {
      const before = "change" in settled ? settled.change.before : "settled";
      if (before === "active") counts.ends.settled += 1;
      else if (before !== "settled") counts.ends.settledLate += 1;
    }
    return results;
  };

  const settleEach = (requests: readonly SettleLeaseRequest[], call: Call): Promise<Settled[]> =>
    eachValid(SettleLeaseRequestSchema, requests, call, (valid) => settle(valid, call));

  return {
    async acquireQuota(request, call) {
      const [decision] = await acquire([request], call);
      if (decision?.granted !== true) throw errorOf(decision);
      return toGranted(leaseIds, decision);
    },

    async checkQuota(request) {
      const subject = subjects.peek(request.username) ?? (await subjects.byName(request.username));
      const admitted = checkAdmission(options, request, subject);
      if ("refused" in admitted) {
        countRefusal(counts.check, admitted.refused.reason);
        throw toRefusalError(admitted.refused, request);
      }
      const { points } = request;
      const [answer] = await counters.execute([{ ...admitted.counterRequest, command: { kind: "check", points } }]);
      if (answer?.kind === "done") {
        counts.check.granted += 1;
        return { limits: toLimitMessages(answer.meterState) };
      }
      if (answer?.kind !== "refused") throw new Error(`unexpected answer to check: ${answer?.kind}`);
      const refused = refusalOf(request, answer.meterState, answer.violated, jitter);
      countRefusal(counts.check, refused.reason);
      throw toRefusalError(refused, request);
    },

    async batchAcquireQuota({ requests }, call) {
      const decisions = await eachValid(AcquireQuotaRequestSchema, requests, call, (valid) => acquire(valid, call));
      return { decisions: decisions.map((decision) => toDecision(leaseIds, decision, call)) };
    },

    async *acquireQuotas(requests, call) {
      for await (const batch of readBatches(requests, maxBatch)) {
        call.signal.throwIfAborted();
        for (const decision of await acquire(batch, call)) yield toDecision(leaseIds, decision, call);
      }
    },

    async renewLease({ leaseId, ttlSeconds = defaultTtlSeconds }, call) {
      return toAnswer(leaseIds, await renewLease(options, leaseId, ttlSeconds * 1000, callerOf(call)));
    },

    async settleLease(request, call) {
      const [settled] = await settle([request], call);
      if (settled === undefined || "error" in settled) throw settled?.error;
      return toSettled(leaseIds, settled.change);
    },

    async batchSettleLeases({ requests }, call) {
      const results = await settleEach(requests, call);
      return { results: results.map((settled) => toResult(leaseIds, settled, call)) };
    },

    async *settleLeases(requests, call) {
      for await (const batch of readBatches(requests, maxBatch)) {
        call.signal.throwIfAborted();
        const settlements = batch.map(({ request }) => request ?? create(SettleLeaseRequestSchema));
        for (const settled of await settleEach(settlements, call)) yield toResult(leaseIds, settled, call);
      }
    },

    async releaseLease({ leaseId }, call) {
      const { view, before } = await releaseLease(options, leaseId, callerOf(call));
      if (before === "active" || before === "expired") counts.ends.released += 1;
      return { lease: toLeaseMessage(leaseIds, view) };
    },

    async getQuotaUsage({ username }, call) {
      const subject = await getVisibleSubject(call.principal, username);
      const methods = [...subject.quotas.keys()].map(parseMethodKey);
      const answers = await counters.execute(
        methods.map(({ service, methodGroup }) => ({
          meter: meterOf(subject, service, methodGroup),
          rules: rulesOf(subject, service, methodGroup, byDefault),
          command: { kind: "usage" as const },
        })),
      );
      call.recordRead(subject);
      const usages = answers.map(({ meterState }, index) => ({
        ...methods[index],
        limits: toLimitMessages(meterState),
      }));
      return { usages };
    },

    watchQuotaUsage: (request, call) =>
      watchUsage(options, request, call, (username) => getVisibleSubject(call.principal, username)),

    async listLeases({ username }, call) {
      const subject = await getVisibleSubject(call.principal, username);
      const methods = await findMethods(subject.userId);
      const answers = await counters.execute(
        methods.map(({ service, methodGroup }) => ({
          meter: meterOf(subject, service, methodGroup),
          rules: rulesOf(subject, service, methodGroup, byDefault),
          command: { kind: "leases" as const },
        })),
      );
      const held = answers.flatMap((answer, index) => {
        if (answer.kind !== "leases") throw new Error(`unexpected answer to leases: ${answer.kind}`);
        const { service, methodGroup } = methods[index] as Method;
        const meter = meterOf(subject, service, methodGroup);
        return answer.leases.map((lease) => ({ view: { meter, username, lease }, nowMs: answer.meterState.nowMs }));
      });
      call.recordRead(subject);
      const sorted = held.toSorted((one, other) => one.view.lease.expireMs - other.view.lease.expireMs);
      return { leases: sorted.map(({ view, nowMs }) => toHeldLease(leaseIds, view, nowMs)) };
    },

    async forceReleaseLease({ leaseId }, call) {
      const caller = callerOf(call);
      const ended = await releasedEntryOf(options, leaseId, caller);
      // The end of the lease and its audit action are committed before the slot is free.
      if (ended !== undefined) {
        await leases.prepare([ended]);
        await call.change(leaseId, async (transaction) => ({
          answer: await leases.write(transaction, [ended]),
          companyKey: ended.companyKey,
        }));
        counts.ends.forceReleased += 1;
      }
      const { view } = await releaseLease(options, leaseId, caller);
      return { lease: toLeaseMessage(leaseIds, view) };
    },
  };
}

function callerOf({ principal, tracecode }: Call): QuotaCaller {
  return { username: principal.username, tracecode };
}

/**
 * Serves the valid items of a batch together. Returns a result for each item, in order: an invalid item has the error of
 * its own call.
 */
async function eachValid<Item extends Message, Result>(
  desc: DescMessage,
  items: readonly Item[],
  call: Call,
  serve: (valid: readonly Item[]) => Promise<readonly Result[]>,
): Promise<(Result | { readonly granted: false; readonly error: unknown })[]> {
  const errors = items.map((item) => {
    try {
      call.validateItem(desc, item);
      return undefined;
    } catch (error) {
      return { granted: false as const, error };
    }
  });
  const valid = items.filter((_item, index) => errors[index] === undefined);
  const results = (valid.length === 0 ? [] : await serve(valid)).values();
  return errors.map((error) => error ?? (results.next().value as Result));
}

function errorOf(decision: Decision | undefined): unknown {
  if (decision === undefined || decision.granted) return new Error("no decision for a request");
  return "error" in decision ? decision.error : toRefusalError(decision.refused, decision.request);
}

function toGranted(
  leaseIds: LeaseIds,
  { view, meterState }: Extract<Decision, { granted: true }>,
): AcquireQuotaResponse {
  const [lease, limits] = [toLeaseMessage(leaseIds, view), toLimitMessages(meterState)];
  return { $typeName: "tollgate.v1.AcquireQuotaResponse", lease, limits };
}

function toAnswer(leaseIds: LeaseIds, { view, meterState }: LeaseChange) {
  return { lease: toLeaseMessage(leaseIds, view), limits: toLimitMessages(meterState) };
}

function toSettled(leaseIds: LeaseIds, { view, before }: LeaseChange): SettleLeaseResponse {
  const lease = toLeaseMessage(leaseIds, view);
  return { $typeName: "tollgate.v1.SettleLeaseResponse", lease, leaseExpired: before === "expired" };
}

function toDecision(leaseIds: LeaseIds, decision: Decision, call: Call) {
  if (decision.granted) return { decision: { case: "granted" as const, value: toGranted(leaseIds, decision) } };
  const violated = "refused" in decision ? decision.refused.violated : [];
  const value = toRefusal(call.toItemError(errorOf(decision)), violated);
  return { decision: { case: "refused" as const, value } };
}

function toResult(leaseIds: LeaseIds, settled: Settled, call: Call) {
  if ("change" in settled) return { result: { case: "settled" as const, value: toSettled(leaseIds, settled.change) } };
  return { result: { case: "refused" as const, value: toRefusal(call.toItemError(settled.error)) } };
}
