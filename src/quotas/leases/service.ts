import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { Role_Name } from "#gen/tollgate/v1/access_pb.js";
import type { QuotaService } from "#gen/tollgate/v1/lease_pb.js";
import { notFound } from "../../shared/errors.ts";
import type { Call, Handlers } from "../../shared/handler.ts";
import { hasRole, type Principal, type Scope, scopeOf } from "../../shared/principal.ts";
import { reasons } from "../../shared/reasons.ts";
import type { Book } from "../../shared/records.ts";
import type { LedgerEntry } from "../ledger/entry.ts";
import type { LeaseIds } from "../ledger/lease-id.ts";
import { meterOf, parseMethodKey, rulesOf, type Subject } from "../limits/subjects.ts";
import { type Asker, acquire, admit, type Decision, defaultTtlSeconds } from "./acquire.ts";
import { batches } from "./batches.ts";
import { type Ended, endOf, type LifecycleOptions, release, renew, settle } from "./lifecycle.ts";
import { limitNames, toLimitMessages } from "./limit-messages.ts";
import { toHeldLease, toLeaseMessage } from "./messages.ts";
import { refusalOf, toError } from "./refusal.ts";

export interface HotPathOptions extends LifecycleOptions {
  /** The methods of which the ledger knows running leases, whatever quotas there are. */
  readonly findMethods: (userId: number) => Promise<readonly Method[]>;
  /** Whether the scope has a user of that name, by one query. */
  readonly isInScope: (scope: Scope, username: string) => Promise<boolean>;
  readonly leases: Book<LedgerEntry, LedgerEntry>;
}

interface Method {
  readonly service: number;
  readonly methodGroup: number;
}

/** Decisions of one batch, and so what a stream reads ahead at the most. */
const maxBatch = 1000;

export function quotaHandlers(options: HotPathOptions): Handlers<typeof QuotaService> {
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
      const admitted = admit(options, request, subject);
      if ("refused" in admitted) throw toError(admitted.refused, request);
      const { points } = request;
      const [answer] = await counters.ask([{ ...admitted.ask, command: { kind: "check", points } }]);
      if (answer?.kind === "done") return { limits: toLimitMessages(answer.standing) };
      if (answer?.kind !== "refused") throw new Error(`a check was answered ${answer?.kind}`);
      throw toError(refusalOf(request, answer.standing, answer.violated, jitter), request);
    },

    async batchAcquireQuota({ requests }, call) {
      return {
        decisions: (await acquire(options, requests, askerOf(call))).map((decision) => toDecision(leaseIds, decision)),
      };
    },

    async *acquireQuotas(requests, call) {
      for await (const batch of batches(requests, maxBatch)) {
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
      const answers = await counters.ask(
        methods.map(({ service, methodGroup }) => ({
          meter: meterOf(subject, service, methodGroup),
          rules: rulesOf(subject, service, methodGroup, byDefault),
          command: { kind: "usage" as const },
        })),
      );
      call.recordRead(subject);
      const usages = answers.map(({ standing }, index) => ({ ...methods[index], limits: toLimitMessages(standing) }));
      return { usages };
    },

    async listLeases({ username }, call) {
      const subject = await visible(call.principal, username);
      const methods = await findMethods(subject.userId);
      const answers = await counters.ask(
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
        return answer.leases.map((lease) => ({ view: { meter, username, lease }, nowMs: answer.standing.nowMs }));
      });
      call.recordRead(subject);
      const sorted = held.toSorted((one, other) => one.view.lease.expireMs - other.view.lease.expireMs);
      return { leases: sorted.map(({ view, nowMs }) => toHeldLease(leaseIds, view, nowMs)) };
    },

    async forceReleaseLease({ leaseId }, call) {
      const asker = askerOf(call);
      const ended = await endOf(options, leaseId, asker);
      // The ledger says that it has ended, and the audit log who ended it, before the slot is anybody's.
      if (ended !== undefined) {
        await leases.prepare([ended]);
        await call.change(leaseId, async (transaction) => ({
          answer: await leases.write(transaction, [ended]),
          companyKey: ended.companyKey,
        }));
      }
      const { view } = await release(options, leaseId, asker);
      return { lease: toLeaseMessage(leaseIds, view) };
    },
  };
}

function askerOf({ principal, tracecode }: Call): Asker {
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
  return toError(decision.refused, decision.asked);
}

function toGranted(leaseIds: LeaseIds, { view, standing }: Extract<Decision, { granted: true }>) {
  return { lease: toLeaseMessage(leaseIds, view), limits: toLimitMessages(standing) };
}

function toAnswer(leaseIds: LeaseIds, { view, standing }: Ended) {
  return { lease: toLeaseMessage(leaseIds, view), limits: toLimitMessages(standing) };
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
