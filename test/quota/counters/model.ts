import type { Command, Lease, LeaseState, LimitName, Rules } from "../../../src/quota/counters/engine.ts";
import { dayAt, dayMs, hourMs, windowAt } from "../../../src/quota/counters/window.ts";

/**
 * What a meter promises, said as simply as it can be: every lease there ever was, and all sums made anew for every
 * question. Nothing is counted along the way, nothing is forgotten.
 */
export function createModel() {
  const leases = new Map<string, Lease>();
  let current: { day: number; offset: number } | undefined;

  return { leases, day: () => current, ask };

  function ask({ timezone, quotas }: Rules, command: Command, nowMs: number) {
    for (const [operationId, lease] of leases) {
      if (lease.state === "active" && lease.expireMs <= nowMs) leases.set(operationId, { ...lease, state: "expired" });
    }
    const dayEndMs = (kept: { day: number; offset: number }) =>
      Math.max(...[kept.offset, timezone].map((hours) => (kept.day + 1) * dayMs - hours * hourMs));
    if (current === undefined || nowMs >= dayEndMs(current))
      current = { day: dayAt(nowMs, timezone), offset: timezone };
    const { day } = current;
    const { window, limits } = windowAt(day, quotas);

    const lease = "operationId" in command ? leases.get(command.operationId) : undefined;
    const before = lease?.state;
    const outcome = decide();
    return { ...outcome, dayEndMs: dayEndMs(current), window, ...sums() };

    function sums() {
      const of = (state: LeaseState, isIn: (day: number) => boolean) =>
        [...leases.values()]
          .filter((one) => one.state === state && isIn(one.day))
          .reduce((sum, one) => sum + (one.settledPoints ?? one.points), 0);
      const today = (one: number) => one === day;
      const inWindow = (one: number) => window.from <= one && one < window.to;
      return {
        dayUsed: of("settled", today),
        windowUsed: of("settled", inWindow),
        dayReserved: of("active", today),
        windowReserved: of("active", inWindow),
        running: [...leases.values()].filter(({ state }) => state === "active").length,
      };
    }

    function violated(ofDay: number, points: number, isNew: boolean): LimitName[] | undefined {
      if (limits === undefined) return [];
      const { dayUsed, dayReserved, windowUsed, windowReserved, running } = sums();
      const reached: Record<LimitName, number> = {
        pointsPerRequest: isNew ? points : 0,
        pointsPerDay: ofDay === day ? dayUsed + dayReserved + points : 0,
        pointsPerDateWindow: window.from <= ofDay && ofDay < window.to ? windowUsed + windowReserved + points : 0,
        maxConcurrentExecution: running + 1,
      };
      const found = (Object.keys(reached) as LimitName[]).filter((name) => reached[name] > (limits[name] ?? Infinity));
      return found.length === 0 ? undefined : found;
    }

    function put(fields: Partial<Lease>): { kind: string; before: LeaseState | undefined; state: LeaseState } {
      const next = { ...(lease as Lease), ...fields };
      leases.set(next.operationId, next);
      return { kind: "done", before, state: next.state };
    }

    function decide(): { kind: string; before?: LeaseState | undefined; state?: LeaseState; violated?: LimitName[] } {
      switch (command.kind) {
        case "acquire": {
          const { operationId, points, ttlMs, holder } = command;
          if (lease !== undefined && lease.points !== points) return { kind: "conflict" };
          if (lease !== undefined && before !== "expired") return put({});
          const found = violated(lease?.day ?? day, points, lease === undefined);
          if (found !== undefined) return { kind: "refused", violated: found };
          const fresh = { operationId, day, points, grantedMs: nowMs, settledPoints: undefined };
          return put({ ...(lease ?? fresh), state: "active", expireMs: nowMs + ttlMs, holder });
        }
        case "check": {
          const found = violated(day, command.points, true);
          return found === undefined ? { kind: "done" } : { kind: "refused", violated: found };
        }
        case "renew": {
          if (lease === undefined) return { kind: "unknown" };
          if (before === "active") return put({ expireMs: Math.max(lease.expireMs, nowMs + command.ttlMs) });
          if (before !== "expired") return put({});
          const found = violated(lease.day, lease.points, false);
          if (found !== undefined) return { kind: "refused", violated: found };
          return put({ state: "active", expireMs: nowMs + command.ttlMs });
        }
        case "settle":
          if (lease === undefined) return { kind: "unknown" };
          if (before === "settled" && lease.settledPoints !== command.points) return { kind: "conflict" };
          return put({ state: "settled", settledPoints: command.points });
        case "release":
          if (lease === undefined) return { kind: "unknown" };
          return put(before === "settled" ? {} : { state: "released" });
        case "usage":
          return { kind: "done" };
        case "leases":
          return { kind: "leases" };
      }
    }
  }
}
