import type {
  Command,
  Lease,
  LeaseState,
  LimitName,
  Missing,
  Remembered,
  Rules,
  Snapshot,
} from "../../../src/quotas/counters/engine.ts";
import { windowAt } from "../../../src/quotas/counters/window.ts";
import { dayAt, dayMs, hourMs } from "../../../src/shared/calendar.ts";

interface KnownOperation {
  readonly lease: Lease;
  /** The time at which an ended lease is forgotten. */
  readonly forgetMs: number;
}

interface Outcome {
  readonly kind: string;
  readonly before?: LeaseState | undefined;
  readonly state?: LeaseState | undefined;
  readonly violated?: readonly LimitName[];
  readonly contradicts?: boolean;
}

/**
 * The simplest model of a meter and its ledger: it keeps every lease, and computes all sums from the leases for each
 * command. Ended operations are bounded by their time only, not by their number.
 */
export function createModel(remember: Remembered) {
  /** The leases of the ledger, by day and operation id. */
  const rows = new Map<string, Lease>();
  /** The leases that the counters remember, by operation id. */
  const known = new Map<string, KnownOperation>();
  let current: { day: number; offset: number } | undefined;
  let nowMs = 0;

  return { execute, lose, snapshot, find };

  /** Drops the counters, and primes them from the ledger. */
  function lose(atMs: number): void {
    nowMs = atMs;
    known.clear();
    for (const row of [...rows.values()].toSorted((left, right) => left.grantedMs - right.grantedMs)) {
      const endMs = row.endedMs ?? row.expireMs;
      if (endMs > nowMs - remember.ms) known.set(row.operationId, { lease: row, forgetMs: endMs + remember.ms });
      else known.delete(row.operationId);
    }
  }

  function snapshot({ day, window }: Missing, { timezone }: Rules): Snapshot {
    const kept = current ?? { day, offset: timezone };
    const leases = [...rows.values()].toSorted((left, right) => left.grantedMs - right.grantedMs);
    const recent = leases.filter((row) => (row.endedMs ?? row.expireMs) > nowMs - remember.ms);
    return {
      day: kept.day,
      timezone: kept.offset,
      window,
      dayUsed: charged((leaseDay) => leaseDay === kept.day),
      windowUsed: charged((leaseDay) => window.from <= leaseDay && leaseDay < window.to),
      leases: recent,
    };
  }

  function find(day: number, operationId: string): Lease | undefined {
    return rows.get(`${day} ${operationId}`);
  }

  function charged(isIn: (day: number) => boolean): number {
    return [...rows.values()]
      .filter(({ state, day }) => state === "settled" && isIn(day))
      .reduce((sum, { settledPoints = 0 }) => sum + settledPoints, 0);
  }

  /** Returns whether the ledger contradicts the counters: the operation was settled under an earlier grant. */
  function write(lease: Lease): boolean {
    const key = `${lease.day} ${lease.operationId}`;
    const row = rows.get(key);
    if (row?.state === "settled") return row.grantedMs !== lease.grantedMs;
    rows.set(key, lease);
    return false;
  }

  function execute({ timezone, quotas }: Rules, command: Command, atMs: number) {
    nowMs = atMs;
    for (const [operationId, { lease, forgetMs }] of known) {
      const isLate = lease.state === "active" && lease.expireMs <= nowMs;
      const until = isLate ? lease.expireMs + remember.ms : forgetMs;
      if (isLate) known.set(operationId, { lease: { ...lease, state: "expired" }, forgetMs: until });
      if ((isLate || lease.state !== "active") && until <= nowMs) known.delete(operationId);
    }
    const dayEndMs = (kept: { day: number; offset: number }) =>
      Math.max(...[kept.offset, timezone].map((hours) => (kept.day + 1) * dayMs - hours * hourMs));
    if (current === undefined || nowMs >= dayEndMs(current))
      current = { day: dayAt(nowMs, timezone), offset: timezone };
    const { day, offset } = current;
    const { window, limits } = windowAt(day, quotas);

    if ("day" in command && !known.has(command.operationId)) restore(command.day, command.operationId);
    const lease = "operationId" in command ? known.get(command.operationId)?.lease : undefined;
    const before = lease?.state;
    const outcome = decide();
    const reply = { ...outcome, dayEndMs: dayEndMs(current), window, ...sums() };
    if (outcome.contradicts === true) lose(nowMs);
    return reply;

    function restore(ofDay: number, operationId: string): void {
      const row = find(ofDay, operationId);
      if (row === undefined) return;
      const isLate = row.state === "active" && row.expireMs <= nowMs;
      known.set(operationId, {
        lease: isLate ? { ...row, state: "expired" } : row,
        forgetMs: nowMs + remember.ms,
      });
    }

    function sums() {
      const reserved = (isIn: (day: number) => boolean) =>
        running()
          .filter((lease) => isIn(lease.day))
          .reduce((sum, { points }) => sum + points, 0);
      const today = (leaseDay: number) => leaseDay === day;
      const inWindow = (leaseDay: number) => window.from <= leaseDay && leaseDay < window.to;
      return {
        dayUsed: charged(today),
        windowUsed: charged(inWindow),
        dayReserved: reserved(today),
        windowReserved: reserved(inWindow),
        running: running().length,
      };
    }

    function running(): Lease[] {
      return [...known.values()].map(({ lease }) => lease).filter(({ state }) => state === "active");
    }

    function violated(ofDay: number, points: number, isNew: boolean): LimitName[] | undefined {
      if (limits === undefined) return [];
      const { dayUsed, dayReserved, windowUsed, windowReserved, running: slots } = sums();
      const isInWindow = window.from <= ofDay && ofDay < window.to;
      const reached: Partial<Record<LimitName, number>> = {
        ...(isNew && { pointsPerRequest: points }),
        ...(ofDay === day && { pointsPerDay: dayUsed + dayReserved + points }),
        ...(isInWindow && { pointsPerDateWindow: windowUsed + windowReserved + points }),
        maxConcurrentExecution: slots + 1,
      };
      const found = (Object.keys(reached) as LimitName[]).filter((name) => {
        const limit = limits[name];
        return limit !== undefined && ((reached[name] ?? 0) > limit || limit === 0);
      });
      return found.length === 0 ? undefined : found;
    }

    function put(fields: Partial<Lease>) {
      const next = { ...(lease as Lease), ...fields };
      known.set(next.operationId, { lease: next, forgetMs: nowMs + remember.ms });
      return { kind: "done", before, state: next.state, contradicts: write(next) };
    }

    function unchanged() {
      return { kind: "done", before, state: before };
    }

    function decide(): Outcome {
      switch (command.kind) {
        case "acquire": {
          const { operationId, points, ttlMs, holder } = command;
          if (before === "active" && lease?.points === points) return unchanged();
          if (before === "active" || before === "settled") return { kind: "conflict" };
          const found = violated(day, points, true);
          if (found !== undefined) return { kind: "refused", violated: found };
          const fresh = { operationId, day, timezone: offset, points, grantedMs: nowMs, settledPoints: undefined };
          return put({ ...fresh, state: "active", expireMs: nowMs + ttlMs, endedMs: undefined, holder });
        }
        case "check": {
          const found = violated(day, command.points, true);
          return found === undefined ? { kind: "done" } : { kind: "refused", violated: found };
        }
        case "renew": {
          if (lease === undefined) return { kind: "unknown" };
          if (before === "active") return put({ expireMs: Math.max(lease.expireMs, nowMs + command.ttlMs) });
          if (before !== "expired") return unchanged();
          const found = violated(lease.day, lease.points, false);
          if (found !== undefined) return { kind: "refused", violated: found };
          return put({ state: "active", expireMs: nowMs + command.ttlMs });
        }
        case "settle":
          if (lease === undefined) return { kind: "unknown" };
          if (before === "settled") return lease.settledPoints === command.points ? unchanged() : { kind: "conflict" };
          return put({ state: "settled", settledPoints: command.points, endedMs: nowMs });
        case "release":
          if (lease === undefined) return { kind: "unknown" };
          if (before === "settled" || before === "released") return unchanged();
          return put({ state: "released", endedMs: nowMs });
        case "usage":
          return { kind: "done" };
        case "leases":
          return { kind: "leases" };
      }
    }
  }
}
