import type { Day } from "../../shared/calendar.ts";

/**
 * The counters of one user, service and method group, whatever the user's company. They hold nothing that the ledger does
 * not hold. An engine that has lost them replies `missing`, is primed, and is called again.
 */
export interface Meter {
  readonly userId: number;
  /** Numbers of Service.Name and Method.Group. */
  readonly service: number;
  readonly methodGroup: number;
}

/** The limits of a quota. An absent limit does not limit. 0 allows nothing, not even a request of 0 points. */
export interface QuotaLimits {
  /** The days `from` until before `to`, which are its date window. Absent for the base quota, whose window is the month. */
  readonly period?: { readonly from: Day; readonly to: Day };
  readonly pointsPerRequest?: number;
  readonly pointsPerDay?: number;
  readonly pointsPerDateWindow?: number;
  readonly maxConcurrentExecution?: number;
}

/** The offset and quotas of a user. The engine's clock decides which day it is, not the caller's. */
export interface Rules {
  /** The user's offset from UTC, in hours. */
  readonly timezone: number;
  /** Every quota that may apply within a day from now. At most one has no period. */
  readonly quotas: readonly QuotaLimits[];
}

/** A command to a meter. */
export type Command =
  /** Grants a lease. Returns the live lease of the operation. A released or expired operation gets a new lease. */
  | ({ readonly kind: "acquire" } & Acquisition)
  /** Decides like acquire, and changes nothing. */
  | { readonly kind: "check"; readonly points: number }
  /** Extends a live lease. Takes an expired lease again if there is room. */
  | ({ readonly kind: "renew"; readonly ttlMs: number } & Granted)
  /** Charges the points and ends the lease. Wins over a release or an expiry that came first. */
  | ({ readonly kind: "settle"; readonly points: number } & Granted)
  | ({ readonly kind: "release" } & Granted)
  | { readonly kind: "usage" }
  | { readonly kind: "leases" };

/** A lease that was granted. The ledger finds it by its day. */
export interface Granted {
  readonly operationId: string;
  readonly day: Day;
  /** Replaces the lease if the ledger has lost it. */
  readonly proof?: Lease;
}

export interface Acquisition {
  /** UUID, lower case. */
  readonly operationId: string;
  readonly points: number;
  readonly ttlMs: number;
  /** The holder of the lease as text, kept for ListLeases. */
  readonly holder: string;
}

export interface CounterRequest {
  readonly meter: Meter;
  readonly rules: Rules;
  readonly command: Command;
}

export type LeaseState = "active" | "expired" | "released" | "settled";

export interface Lease {
  readonly operationId: string;
  /** The day of the acquire: its points belong to this day whenever the lease ends. */
  readonly day: Day;
  /** The offset at which that day is counted, in hours. */
  readonly timezone: number;
  readonly points: number;
  readonly state: LeaseState;
  /** Milliseconds since the epoch. */
  readonly grantedMs: number;
  readonly expireMs: number;
  /** The charged points. Undefined unless the lease is settled. */
  readonly settledPoints: number | undefined;
  /** When the lease was settled or released. Set in leases of the ledger only. */
  readonly endedMs?: number | undefined;
  /** The holder as text. Empty for a lease that was settled or released. */
  readonly holder: string;
}

export type LimitName = "pointsPerRequest" | "pointsPerDay" | "pointsPerDateWindow" | "maxConcurrentExecution";

/** The state of a meter after a command. */
export interface MeterState {
  /** The engine's clock, milliseconds since the epoch. */
  readonly nowMs: number;
  readonly day: Day;
  /** When the next day begins, in milliseconds since the epoch. */
  readonly dayEndMs: number;
  readonly window: { readonly from: Day; readonly to: Day };
  /** When the next window begins, in milliseconds since the epoch. */
  readonly windowEndMs: number;
  /** Points of settled leases, on the day of their acquire. */
  readonly dayUsed: number;
  readonly windowUsed: number;
  /** Points of live leases, on the day of their acquire. */
  readonly dayReserved: number;
  readonly windowReserved: number;
  /** The number of live leases, whatever their day. */
  readonly running: number;
  /** The limits of today. Undefined when there is no quota and nothing is allowed. */
  readonly limits: QuotaLimits | undefined;
}

/** The reply to a command. A refusal is a value, not an error. */
export type Reply =
  /** Nothing was done. Prime the meter for these days and retry. */
  | Missing
  /** Nothing was done. Another server counts in a later generation. Read the generation and retry. */
  | { readonly kind: "stale"; readonly generation: number }
  /** The engine knows no lease of the operation. Restore it from the ledger and retry. */
  | { readonly kind: "unknown"; readonly meterState: MeterState }
  /** Nothing was done: the operation is live with other points, or it was settled before. */
  | { readonly kind: "conflict"; readonly meterState: MeterState; readonly lease: Lease }
  /** The violated limits. Empty without a quota. `lease` is set when a renewal found no room. */
  | {
      readonly kind: "refused";
      readonly meterState: MeterState;
      readonly violated: readonly LimitName[];
      readonly lease: Lease | undefined;
    }
  /**
   * Done now, or by an earlier command. `lease` is undefined after check, usage and leases. `before` is the state of the
   * lease before the command. Undefined for an unknown operation.
   */
  | {
      readonly kind: "done";
      readonly meterState: MeterState;
      readonly lease: Lease | undefined;
      readonly before: LeaseState | undefined;
    }
  /** The live leases, the first to expire first. */
  | { readonly kind: "leases"; readonly meterState: MeterState; readonly leases: readonly Lease[] };

export interface Missing {
  readonly kind: "missing";
  /** A prime must present this token. It is void after the meter is primed, charged or lost again. */
  readonly token: string;
  /** The engine's clock, milliseconds since the epoch. */
  readonly nowMs: number;
  readonly day: Day;
  readonly window: { readonly from: Day; readonly to: Day };
}

/** How long ended operations are remembered. A repeated acquire of a forgotten operation is granted. */
export interface Remembered {
  readonly ms: number;
  /** The most operations of one meter. The oldest are forgotten first. */
  readonly operations: number;
}

/** The totals of a meter in the ledger. */
export interface Snapshot {
  readonly day: Day;
  /** The offset at which that day is counted, in hours. */
  readonly timezone: number;
  readonly window: { readonly from: Day; readonly to: Day };
  /** Points of settled leases only: recorded actions are not charged to counters. */
  readonly dayUsed: number;
  readonly windowUsed: number;
  /** Every lease that may be live, and the leases that ended last. Of two leases of one operation, the later counts. */
  readonly leases: readonly Lease[];
}

/** A store of counters. Every engine passes test/quotas/counters/conformance.ts. */
export interface CounterEngine {
  /** Returns one reply for each request, in order, in one round trip. Requests of one meter take effect in order. */
  run(requests: readonly CounterRequest[]): Promise<Reply[]>;
  /**
   * Fills a missing meter from a snapshot. Changes nothing when the token is void. A meter that only lacks the points of
   * its window gets them, with those of settlements that it has and the snapshot lacks.
   */
  prime(meter: Meter, token: string, snapshot: Snapshot): Promise<void>;
  /**
   * Adds a lease of the ledger that the meter does not know. Changes nothing if it knows the lease. A live lease takes its
   * slot and its points. A settled lease charges nothing: its points are in the meter already.
   */
  restore(meter: Meter, rules: Rules, lease: Lease): Promise<void>;
  /** Drops a meter that may be wrong. The next request finds it missing. */
  forget(meter: Meter): Promise<void>;
  /**
   * Drops all counters of earlier generations, which cannot be trusted.
   * @param owner identifies the database of the ledger: counters of other databases are ignored
   */
  setGeneration(generation: number, owner?: string): void;
}
