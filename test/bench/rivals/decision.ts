import { Redis } from "ioredis";
import type { AcquireQuotaRequest, SettleLeaseRequest } from "#gen/tollgate/v1/lease_pb.js";
import type { Command, CounterRequest, Meter } from "../../../src/quotas/counters/engine.ts";
import { createRedisEngine } from "../../../src/quotas/counters/redis.ts";
import { toLimitMessages } from "../../../src/quotas/leases/limit-messages.ts";
import { toLeaseMessage } from "../../../src/quotas/leases/messages.ts";
import { createLeaseIds } from "../../../src/quotas/ledger/lease-id.ts";

const remember = { ms: 86_400_000, operations: 2000 };
const leaseIds = createLeaseIds({ secrets: ["a secret that no server has"], now: Date.now });
const rules = {
  timezone: 0,
  quotas: [{ pointsPerDay: 1_000_000_000, pointsPerDateWindow: 1_000_000_000, maxConcurrentExecution: 100_000 }],
};

/** The quota decision alone: the same script, called in the same way, without authentication, ledger or audit. */
export function createDecision(redisUrl: string) {
  const engine = createRedisEngine(new Redis(redisUrl), { remember });
  engine.setGeneration(1);

  async function ask(meter: Meter, command: Command) {
    const request: CounterRequest = { meter, rules, command };
    const [reply] = await engine.run([request]);
    if (reply?.kind !== "missing") return reply;
    const { token, day, window } = reply;
    await engine.prime(meter, token, { day, timezone: 0, window, dayUsed: 0, windowUsed: 0, leases: [] });
    return (await engine.run([request]))[0];
  }

  return {
    async acquire({ username, service, methodGroup, points, operationId }: AcquireQuotaRequest) {
      const meter = { userId: Number(username.split("_")[1]), service, methodGroup };
      const ttlMs = 60_000;
      const holder = "00000000-0000-0000-0000-000000000000 rival";
      const reply = await ask(meter, { kind: "acquire", operationId, points, ttlMs, holder });
      if (reply?.kind !== "done" || reply.lease === undefined)
        throw new Error(`an acquire was answered ${reply?.kind}`);
      const view = { meter, username, lease: reply.lease, ttlMs };
      return { lease: toLeaseMessage(leaseIds, view), limits: toLimitMessages(reply.meterState) };
    },
    async settle({ leaseId, points }: SettleLeaseRequest) {
      const { operationId, day, userId, service, methodGroup } = leaseIds.parse(leaseId);
      const meter = { userId, service, methodGroup };
      const reply = await ask(meter, { kind: "settle", operationId, day, points: points ?? 0 });
      if (reply?.kind !== "done" || reply.lease === undefined)
        throw new Error(`a settlement was answered ${reply?.kind}`);
      return { lease: toLeaseMessage(leaseIds, { meter, username: "", lease: reply.lease }), leaseExpired: false };
    },
  };
}
