import { randomUUID } from "node:crypto";
import { setTimeout as wait } from "node:timers/promises";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromMs, timestampMs } from "@bufbuild/protobuf/wkt";
import { Code } from "@connectrpc/connect";
import {
  type AcquireQuotaResponse,
  Lease_State,
  LimitStanding_Name,
  Outcome_Name,
  type Refusal,
  type SettleLeaseRequestSchema,
  type SettlementResult,
} from "#gen/tollgate/v1/lease_pb.js";
import { Service_Name } from "#gen/tollgate/v1/tracedata_pb.js";
import { failureOf, type Planner } from "./client.ts";
import type { Random } from "./random.ts";
import type { AcquireItem, AcquireLine, EndLine, Failure } from "./records.ts";
import type { World } from "./world.ts";

/** A lease that was granted to a caller. */
export interface Held {
  readonly user: string;
  readonly group: number;
  readonly op: string;
  readonly points: number;
  readonly lease: string;
}

export interface Asked extends Omit<Held, "lease"> {
  readonly ttl: number;
}

/** The calls of a planner. Each is recorded with its answer. */
export interface Calls {
  /** The number of answered acquires, grants and refusals. */
  readonly progress: { operations: number };
  acquire(how: AcquireLine["how"], server: number, asked: readonly Asked[]): Promise<(Held | undefined)[]>;
  /** The outcome for the lease: an "open" call may have taken effect, or not. */
  end(kind: EndLine["call"], server: number, held: Held, points?: number): Promise<"ok" | "refused" | "open">;
  recordActions(server: number, users: readonly string[], group: number): Promise<void>;
}

export function createCalls(world: World, planners: readonly Planner[], random: Random): Calls {
  const progress = { operations: 0 };
  const clientOf = (server: number) => planners[server] as Planner;

  /** Settles by a call, in a batch or on a stream. The invalid neighbor of a batch or stream must not matter. */
  async function settle(quota: Planner["quota"], request: MessageInitShape<typeof SettleLeaseRequestSchema>) {
    const how = random.pick(["single", "batch", "stream"] as const);
    if (how === "single") return quota.settleLease(request);
    const requests = [{ leaseId: "" }, request];
    const results: SettlementResult["result"][] = [];
    if (how === "batch") {
      results.push(...(await quota.batchSettleLeases({ requests })).results.map(({ result }) => result));
    } else {
      const stream = quota.settleLeases(streamOf(requests.map((item) => ({ request: item }))));
      for await (const { result } of stream) results.push(result);
    }
    const [neighbor, own] = results;
    if (neighbor?.case !== "refused" || own?.case === undefined) throw new Error("a settlement has no result");
    if (own.case === "settled") return own.value;
    throw new RefusedItem(own.value);
  }

  return {
    progress,

    async acquire(how, server, asked) {
      const sent = performance.now();
      const items: AcquireItem[] = [];
      const requests = asked.map(({ user, group, op, points, ttl }) => ({
        username: user,
        service: Service_Name.ROUTING,
        methodGroup: group,
        points,
        operationId: op,
        tracecode: op,
        ttlSeconds: ttl,
      }));
      const { quota } = clientOf(server);
      const put = (answer: Partial<AcquireItem>) => {
        const { user, group, op, points } = asked[items.length] as Asked;
        items.push({ user, group, op, points, ...answer });
      };
      const putDecision = ({ decision }: Decision) => {
        if (decision.case === "granted") return put(grantOf(decision.value));
        if (decision.case !== "refused") throw new Error("a decision is neither granted nor refused");
        const { reason, message, violations, code } = decision.value;
        put({ failure: { code: Code[code] ?? "", reason, message }, violated: violations.map(limitName) });
      };
      try {
        if (how === "single") {
          put(grantOf(await quota.acquireQuota(requests[0] ?? {})));
        } else if (how === "batch") {
          for (const decision of (await quota.batchAcquireQuota({ requests })).decisions) putDecision(decision);
        } else {
          for await (const decision of quota.acquireQuotas(streamOf(requests))) putDecision(decision);
        }
      } catch (error) {
        const failure = failureOf(error);
        while (items.length < asked.length) put({ failure });
      }
      world.record({ call: "acquire", how, server, sent, answered: performance.now(), items });
      progress.operations += items.filter(({ failure }) => !isOpen(failure)).length;
      return items.map(({ user, group, op, points, lease, isActive }) =>
        lease === undefined || isActive !== true ? undefined : { user, group, op, points, lease },
      );
    },

    async end(call, server, { user, group, op, lease }, points) {
      const sent = performance.now();
      const line = { call, server, user, group, op, lease, ...(points !== undefined && { points }) };
      const { quota } = clientOf(server);
      try {
        const pointKeys = [BigInt(random.between(1, 500))];
        const { lease: answer } = await (call === "renew"
          ? quota.renewLease({ leaseId: lease, ttlSeconds: random.between(2, 20) })
          : call === "release"
            ? quota.releaseLease({ leaseId: lease })
            : settle(quota, { leaseId: lease, points: points ?? 0, pointKeys, outcome: Outcome_Name.SUCCESS }));
        world.record({
          ...line,
          sent,
          answered: performance.now(),
          ...(answer && { answer: answer.leaseId }),
          ...(answer?.expireTime && { expire: timestampMs(answer.expireTime) }),
        });
        progress.operations += 1;
        return "ok";
      } catch (error) {
        const failure = error instanceof RefusedItem ? error.failure : failureOf(error);
        world.record({ ...line, sent, answered: performance.now(), failure });
        if (isOpen(failure)) return "open";
        progress.operations += 1;
        return "refused";
      }
    },

    async recordActions(server, users, group) {
      const sent = performance.now();
      const actions = users.map((user) => ({ tracecode: randomUUID() as string, user, points: random.between(0, 9) }));
      const time = timestampFromMs(Date.now() + world.movedMs());
      const line = { call: "record" as const, server, actions, sent };
      try {
        await clientOf(server).audit.recordActions({
          actions: actions.map(({ tracecode, user, points }) => ({
            tracecode,
            username: user,
            service: Service_Name.ROUTING,
            operation: "recorded_calculation",
            methodGroup: group,
            time,
            points,
          })),
        });
        world.record({ ...line, answered: performance.now() });
        progress.operations += actions.length;
      } catch (error) {
        world.record({ ...line, answered: performance.now(), failure: failureOf(error) });
        await wait(100);
      }
    },
  };
}

/** A refusal inside a batch or stream. */
class RefusedItem extends Error {
  readonly failure: Failure;

  constructor({ code, reason, message }: Refusal) {
    super(message);
    this.failure = { code: Code[code] ?? "", reason, message };
  }
}

interface Decision {
  readonly decision:
    | { readonly case: "granted"; readonly value: AcquireQuotaResponse }
    | {
        readonly case: "refused";
        readonly value: {
          readonly code: number;
          readonly reason: string;
          readonly message: string;
          readonly violations: readonly LimitStanding_Name[];
        };
      }
    | { readonly case: undefined };
}

/** Returns whether the call may have taken effect, or may still: only a refusal with a reason rules it out. */
export function isOpen(failure: Failure | undefined): boolean {
  return failure !== undefined && (failure.reason === "" || failure.code === "Unavailable");
}

function grantOf({ lease }: AcquireQuotaResponse): Partial<AcquireItem> {
  if (lease?.grantedTime === undefined || lease.expireTime === undefined) throw new Error("a grant without a lease");
  return {
    lease: lease.leaseId,
    granted: timestampMs(lease.grantedTime),
    expire: timestampMs(lease.expireTime),
    isActive: lease.state === Lease_State.ACTIVE,
  };
}

const names: Partial<Record<LimitStanding_Name, string>> = {
  [LimitStanding_Name.POINTS_PER_DAY]: "day",
  [LimitStanding_Name.POINTS_PER_DATE_WINDOW]: "window",
  [LimitStanding_Name.MAX_CONCURRENT_EXECUTION]: "running",
};

function limitName(name: LimitStanding_Name): string {
  return names[name] ?? "request";
}

async function* streamOf<Item>(items: readonly Item[]): AsyncGenerator<Item> {
  yield* items;
}
