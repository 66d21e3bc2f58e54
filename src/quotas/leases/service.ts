import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { Role_Name } from "#gen/tollgate/v1/access_pb.js";
import type { QuotaService } from "#gen/tollgate/v1/lease_pb.js";
import { notFound } from "../../shared/errors.ts";
import type { Call, Handlers } from "../../shared/handler.ts";
import { hasRole, type Principal, type Scope, scopeOf } from "../../shared/principal.ts";
import { reasons } from "../../shared/reasons.ts";
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
import {
  type LeaseChange,
  type LifecycleOptions,
  releasedEntryOf,
  releaseLease,
  renewLease,
  settleLease,
} from "./lifecycle.ts";
import { limitNames, toLimitMessages } from "./limit-messages.ts";
import { toHeldLease, toLeaseMessage } from "./messages.ts";
import { refusalOf, toRefusalError } from "./refusal.ts";

export interface QuotaServiceOptions extends LifecycleOptions {
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
      const decisions = await acquire(requests, call);
      return { decisions: decisions.map((decision) => toDecision(leaseIds, decision)) };
    },

    async *acquireQuotas(requests, call) {
      for await (const batch of readBatches(requests, maxBatch)) {
        call.signal.throwIfAborted();
        for (const decision of await acquire(batch, call)) yield toDecision(leaseIds, decision);
      }
    },

    async renewLease({ leaseId, ttlSeconds = defaultTtlSeconds }, call) {
      return toAnswer(leaseIds, await renewLease(options, leaseId, ttlSeconds * 1000, callerOf(call)));
    },

    async settleLease(request, call) {
      const { view, before } = await settleLease(options, request, callerOf(call));
      if (before === "active") counts.ends.settled += 1;
      else if (before !== "settled") counts.ends.settledLate += 1;
      return { lease: toLeaseMessage(leaseIds, view), leaseExpired: before === "expired" };
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

/** BOT acts for users of every company, even together with a narrower role. */
function seesEveryone(principal: Principal): boolean {
  return hasRole(principal, Role_Name.BOT) || scopeOf(principal).kind === "everything";
}

function maySee(principal: Principal, { userId, companyKey }: Subject): boolean {
  if (seesEveryone(principal)) return true;
  const scope = scopeOf(principal);
  return scope.kind === "company" ? scope.companyKey === companyKey : scope.kind === "self" && scope.userId === userId;
}

function errorOf(decision: Decision | undefined): Error {
  if (decision === undefined || decision.granted) return new Error("no decision for a request");
  return toRefusalError(decision.refused, decision.request);
}

function toGranted(leaseIds: LeaseIds, { view, meterState }: Extract<Decision, { granted: true }>) {
  return { lease: toLeaseMessage(leaseIds, view), limits: toLimitMessages(meterState) };
}

function toAnswer(leaseIds: LeaseIds, { view, meterState }: LeaseChange) {
  return { lease: toLeaseMessage(leaseIds, view), limits: toLimitMessages(meterState) };
}

function toDecision(leaseIds: LeaseIds, decision: Decision) {
  if (decision.granted) return { decision: { case: "granted" as const, value: toGranted(leaseIds, decision) } };
  const { reason, message, violated, retryDelayMs } = decision.refused;
  const value = {
    code: reasons[reason].code,
    reason,
    message,
    violations: violated.map(({ name }) => limitNames[name]),
    ...(retryDelayMs !== undefined && { retryDelay: durationFromMs(retryDelayMs) }),
  };
  return { decision: { case: "refused" as const, value } };
}
