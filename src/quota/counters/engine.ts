/**
 * The counters of one user × service × method group. They hold nothing that the ledger does not: an engine that has
 * lost them says so, is primed, and is asked again.
 */
export interface Meter {
  /** All meters of a company share a Redis slot. */
  readonly companyKey: string;
  readonly userId: number;
  /** Numbers of Service.Name and Method.Group. */
  readonly service: number;
  readonly methodGroup: number;
}

/** A calendar day, counted from 1970-01-01. */
export type Day = number;

/** The limits of some days. An absent one does not limit; 0 allows nothing. */
export interface QuotaLimits {
  /** The days from..to, `to` excluded, which are its date window; without: every other day, by calendar months. */
  readonly period?: { readonly from: Day; readonly to: Day };
  readonly pointsPerRequest?: number;
  readonly pointsPerDay?: number;
  readonly pointsPerDateWindow?: number;
  readonly maxConcurrentExecution?: number;
}

/** Which day it is for a user and what holds on it: the engine's own clock decides, not the caller's. */
export interface Rules {
  /** The user's offset from UTC, in hours. */
  readonly timezone: number;
  /** Every quota that may hold within a day from now: at most one without a period. */
  readonly quotas: readonly QuotaLimits[];
}

/** What is asked of a meter. */
export type Command =
  | ({ readonly kind: "acquire" } & Acquisition)
  /** Acquire's answer, changing nothing. */
  | { readonly kind: "check"; readonly points: number }
  /** Extends a live lease; takes an expired one again if there is room. */
  | ({ readonly kind: "renew"; readonly ttlMs: number } & Granted)
  /** Wins over every other end of a lease, whatever came first. */
  | ({ readonly kind: "settle"; readonly points: number } & Granted)
  | ({ readonly kind: "release" } & Granted)
  | { readonly kind: "usage" }
  | { readonly kind: "leases" };

/** A lease that was granted once: the ledger finds it by its day. */
export interface Granted {
  readonly operationId: string;
  readonly day: Day;
}

export interface Acquisition {
  /** UUID, lower case. */
  readonly operationId: string;
  readonly points: number;
  readonly ttlMs: number;
  /** Who holds the slot, kept as it is for ListLeases. */
  readonly holder: string;
}

export interface Ask {
  readonly meter: Meter;
  readonly rules: Rules;
  readonly command: Command;
}

export type LeaseState = "active" | "expired" | "released" | "settled";

export interface Lease {
  readonly operationId: string;
  /** The day of the acquire, to which the points belong for good. */
  readonly day: Day;
  readonly points: number;
  readonly state: LeaseState;
  /** Milliseconds since the epoch. */
  readonly grantedMs: number;
  readonly expireMs: number;
  /** Of a settled lease. */
  readonly settledPoints: number | undefined;
  /** Of a lease that may still be held. */
  readonly holder: string;
}

export type LimitName = "pointsPerRequest" | "pointsPerDay" | "pointsPerDateWindow" | "maxConcurrentExecution";

/** What a meter stands at, after the command. */
export interface Standing {
  /** The engine's clock, milliseconds since the epoch. */
  readonly nowMs: number;
  readonly day: Day;
  /** When the next day begins. */
  readonly dayEndMs: number;
  readonly window: { readonly from: Day; readonly to: Day };
  /** When the next window begins. */
  readonly windowEndMs: number;
  /** Points of settled leases, by the day of their acquire. */
  readonly dayUsed: number;
  readonly windowUsed: number;
  /** Points of live leases, by the day of their acquire. */
  readonly dayReserved: number;
  readonly windowReserved: number;
  /** Live leases, whatever their day. */
  readonly running: number;
  /** What holds today; undefined when no quota does, and nothing is allowed. */
  readonly limits: QuotaLimits | undefined;
}

/** A refusal is a value. */
export type Reply =
  /** Nothing was done: prime the meter for these days, then ask again. */
  | { readonly kind: "missing"; readonly day: Day; readonly window: { readonly from: Day; readonly to: Day } }
  /** Nothing was done: another server counts under a later generation already. Learn of it, then ask again. */
  | { readonly kind: "stale"; readonly generation: number }
  /** No lease of that operation is known here. The ledger may know it: restore it, then ask again. */
  | { readonly kind: "unknown"; readonly standing: Standing }
  /** The operation was acquired with other points, or settled with other ones. Nothing was done. */
  | { readonly kind: "conflict"; readonly standing: Standing; readonly lease: Lease }
  /** Every violated limit; empty when there is no quota at all. `lease`: of a renewal that found no room. */
  | {
      readonly kind: "refused";
      readonly standing: Standing;
      readonly violated: readonly LimitName[];
      readonly lease: Lease | undefined;
    }
  /**
   * Done, or done before. `lease` is undefined after check, usage and leases.
   * `before`: the lease's state when the command came; undefined for a lease that is new.
   */
  | {
      readonly kind: "done";
      readonly standing: Standing;
      readonly lease: Lease | undefined;
      readonly before: LeaseState | undefined;
    }
  /** The answer to `leases`: the live ones, the first to expire first. */
  | { readonly kind: "leases"; readonly standing: Standing; readonly leases: readonly Lease[] };

/** What the ledger knows of a meter. */
export interface Snapshot {
  readonly day: Day;
  /** The offset at which that day is counted, in hours. */
  readonly timezone: number;
  readonly window: { readonly from: Day; readonly to: Day };
  /** Points of settled leases. */
  readonly dayUsed: number;
  readonly windowUsed: number;
  /** Every live lease, and every other one of the last 24 hours. */
  readonly leases: readonly Lease[];
}

/** Where counters are kept. Every engine passes test/quota/counters/conformance.ts. */
export interface CounterEngine {
  /** One reply for each ask, in order, in one round trip. Asks of one meter take effect in their order. */
  run(asks: readonly Ask[]): Promise<Reply[]>;
  /** Puts a snapshot in the place of nothing; changes nothing where another caller was first. */
  prime(meter: Meter, snapshot: Snapshot): Promise<void>;
  /** Puts back a lease of the ledger that the meter does not know, and charges it; else changes nothing. */
  restore(meter: Meter, rules: Rules, lease: Lease): Promise<void>;
  /** Forgets everything that was kept under an earlier number: what is kept by then cannot be trusted. */
  setGeneration(generation: number): void;
}
