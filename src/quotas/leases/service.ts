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
import { acquire, checkAdmission, type Decision, defaultTtlSeconds, type QuotaCaller } from "./acquire.ts";
import { readBatches } from "./batches.ts";
import { type Ended, type LifecycleOptions, release, releasedEntryOf, renew, settle } from "./lifecycle.ts";
import { limitNames, toLimitMessages } from "./limit-messages.ts";
import { toHeldLease, toLeaseMessage } from "./messages.ts";
import { refusalOf, toRefusalError } from "./refusal.ts";

export interface QuotaServiceOptions extends LifecycleOptions {
  /** The methods of which the ledger knows running leases, whatever quotas there are. */
  readonly findMethods: (userId: number) => Promise<readonly Method[]>;
  /** Whether the scope has a user of that name, by one query. */
  readonly isInScope: (scope: Scope, username: string) => Promise<boolean>;
  readonly leases: RecordWriter<LedgerEntry, LedgerEntry>;
}

interface Method {
  readonly service: number;
  readonly methodGroup: number;
}

/** Decisions of one batch, and so what a stream reads ahead at the most. */
const maxBatch = 1000;

export function quotaHandlers(options: QuotaServiceOptions): Handlers<typeof QuotaService> {
  const { subjects, counters, byDefault, jitter, findMethods, isInScope, leases, leaseIds } = options;

  /** Another company's user and a name that does not exist cost the same query, so that the time tells nothing. */
  async function visible(principal: Principal, username: string): Promise<Subject> {
    const isVisible = seesEveryone(principal) || (await isInScope(scopeOf(principal), username));
    const subject = isVisible ? await subjects.byName(username) : undefined;
    if (subject === undefined || !maySee(principal, subject)) throw notFound("user", username);
    return subject;
  }

  return {
    async acquireQuota(request, call) {
      const [decision] = await acquire(options, [request], askerOf(call));
      if (decision?.granted !== true) throw errorOf(decision);
      return toGranted(leaseIds, decision);
    },

    async checkQuota(request) {
      const subject = subjects.peek(request.username) ?? (await subjects.byName(request.username));
      const admitted = checkAdmission(options, request, subject);
      if ("refused" in admitted) throw toRefusalError(admitted.refused, request);
      const { points } = request;
      const [answer] = await counters.execute([{ ...admitted.ask, command: { kind: "check", points } }]);
      if (answer?.kind === "done") return { limits: toLimitMessages(answer.meterState) };
      if (answer?.kind !== "refused") throw new Error(`a check was answered ${answer?.kind}`);
      throw toRefusalError(refusalOf(request, answer.meterState, answer.violated, jitter), request);
    },

    async batchAcquireQuota({ requests }, call) {
      return {
        decisions: (await acquire(options, requests, askerOf(call))).map((decision) => toDecision(leaseIds, decision)),
      };
    },

    async *acquireQuotas(requests, call) {
      for await (const batch of readBatches(requests, maxBatch)) {
        call.signal.throwIfAborted();
        for (const decision of await acquire(options, batch, askerOf(call))) yield toDecision(leaseIds, decision);
      }
    },

    async renewLease({ leaseId, ttlSeconds = defaultTtlSeconds }, call) {
      return toAnswer(leaseIds, await renew(options, leaseId, ttlSeconds * 1000, askerOf(call)));
    },

    async settleLease(request, call) {
      const { view, before } = await settle(options, request, askerOf(call));
      return { lease: toLeaseMessage(leaseIds, view), leaseExpired: before === "expired" };
    },

    async releaseLease({ leaseId }, call) {
      const { view } = await release(options, leaseId, askerOf(call));
      return { lease: toLeaseMessage(leaseIds, view) };
    },

    async getQuotaUsage({ username }, call) {
      const subject = await visible(call.principal, username);
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
      const subject = await visible(call.principal, username);
      const methods = await findMethods(subject.userId);
      const answers = await counters.execute(
        methods.map(({ service, methodGroup }) => ({
          meter: meterOf(subject, service, methodGroup),
          rules: rulesOf(subject, service, methodGroup, byDefault),
          command: { kind: "leases" as const },
        })),
      );
      const held = answers.flatMap((answer, index) => {
        if (answer.kind !== "leases") throw new Error(`a list was answered ${answer.kind}`);
        const { service, methodGroup } = methods[index] as Method;
        const meter = meterOf(subject, service, methodGroup);
        return answer.leases.map((lease) => ({ view: { meter, username, lease }, nowMs: answer.meterState.nowMs }));
      });
      call.recordRead(subject);
      const sorted = held.toSorted((one, other) => one.view.lease.expireMs - other.view.lease.expireMs);
      return { leases: sorted.map(({ view, nowMs }) => toHeldLease(leaseIds, view, nowMs)) };
    },

    async forceReleaseLease({ leaseId }, call) {
      const caller = askerOf(call);
      const ended = await releasedEntryOf(options, leaseId, caller);
      // The ledger says that it has ended, and the audit log who ended it, before the slot is anybody's.
      if (ended !== undefined) {
        await leases.prepare([ended]);
        await call.change(leaseId, async (transaction) => ({
          answer: await leases.write(transaction, [ended]),
          companyKey: ended.companyKey,
        }));
      }
      const { view } = await release(options, leaseId, caller);
      return { lease: toLeaseMessage(leaseIds, view) };
    },
  };
}

function askerOf({ principal, tracecode }: Call): QuotaCaller {
  return { username: principal.username, tracecode };
}

/** BOT works for users of every company, whatever other role it has. */
function seesEveryone(principal: Principal): boolean {
  return hasRole(principal, Role_Name.BOT) || scopeOf(principal).kind === "everything";
}

function maySee(principal: Principal, { userId, companyKey }: Subject): boolean {
  if (seesEveryone(principal)) return true;
  const scope = scopeOf(principal);
  return scope.kind === "company" ? scope.companyKey === companyKey : scope.kind === "self" && scope.userId === userId;
}

function errorOf(decision: Decision | undefined): Error {
  if (decision === undefined || decision.granted) return new Error("a request was not decided");
  return toRefusalError(decision.refused, decision.asked);
}

function toGranted(leaseIds: LeaseIds, { view, meterState }: Extract<Decision, { granted: true }>) {
  return { lease: toLeaseMessage(leaseIds, view), limits: toLimitMessages(meterState) };
}

function toAnswer(leaseIds: LeaseIds, { view, meterState }: Ended) {
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
