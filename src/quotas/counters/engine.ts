/**
 * The counters of one user × service × method group, whatever the user's company. They hold nothing that the ledger does
 * not: an engine that has lost them says so, is primed, and is asked again.
 */
export interface Meter {
  readonly userId: number;
  /** Numbers of Service.Name and Method.Group. */
  readonly service: number;
  readonly methodGroup: number;
}

/** A calendar day, counted from 1970-01-01. */
export type Day = number;

/** The limits of some days. An absent one does not limit; 0 allows nothing, not even a request of 0 points. */
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
  /** Returns the lease that runs; grants an operation again that was released or has expired, as a new lease. */
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
  /** What stands in for the lease where the ledger has lost it too. */
  readonly proof?: Lease;
}

export interface Acquisition {
  /** UUID, lower case. */
  readonly operationId: string;
  readonly points: number;
  readonly ttlMs: number;
  /** Who holds the slot, kept as it is for ListLeases. */
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
  /** Of a settled lease. */
  readonly settledPoints: number | undefined;
  /** When it was settled or released, in a lease of the ledger; engines do not tell it. */
  readonly endedMs?: number | undefined;
  /** Of a lease that may still be held. */
  readonly holder: string;
}

export type LimitName = "pointsPerRequest" | "pointsPerDay" | "pointsPerDateWindow" | "maxConcurrentExecution";

/** What a meter stands at, after the command. */
export interface MeterState {
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
  | Missing
  /** Nothing was done: another server counts under a later generation already. Learn of it, then ask again. */
  | { readonly kind: "stale"; readonly generation: number }
  /** No lease of that operation is known here. The ledger may know it: restore it, then ask again. */
  | { readonly kind: "unknown"; readonly meterState: MeterState }
  /** The operation runs with other points, or was settled: by an acquire, or with other points. Nothing was done. */
  | { readonly kind: "conflict"; readonly meterState: MeterState; readonly lease: Lease }
  /** Every violated limit; empty when there is no quota at all. `lease`: of a renewal that found no room. */
  | {
      readonly kind: "refused";
      readonly meterState: MeterState;
      readonly violated: readonly LimitName[];
      readonly lease: Lease | undefined;
    }
  /**
   * Done, or done before. `lease` is undefined after check, usage and leases.
   * `before`: the lease's state when the command came; undefined for an operation that was not known.
   */
  | {
      readonly kind: "done";
      readonly meterState: MeterState;
      readonly lease: Lease | undefined;
      readonly before: LeaseState | undefined;
    }
  /** The answer to `leases`: the live ones, the first to expire first. */
  | { readonly kind: "leases"; readonly meterState: MeterState; readonly leases: readonly Lease[] };

export interface Missing {
  readonly kind: "missing";
  /** The prime must present it: it is void when the meter is primed, charged or lost again after this reply. */
  readonly token: string;
  /** The engine's clock, milliseconds since the epoch. */
  readonly nowMs: number;
  readonly day: Day;
  readonly window: { readonly from: Day; readonly to: Day };
}

/** How long operations that have ended are remembered: a repeated acquire of one that is forgotten is granted. */
export interface Remembered {
  readonly ms: number;
  /** The most of one meter; the oldest are forgotten first. */
  readonly operations: number;
}

/** What the ledger knows of a meter. */
export interface Snapshot {
  readonly day: Day;
  /** The offset at which that day is counted, in hours. */
  readonly timezone: number;
  readonly window: { readonly from: Day; readonly to: Day };
  /** Points of settled leases, and of nothing else. */
  readonly dayUsed: number;
  readonly windowUsed: number;
  /** Every lease that may run, and those that ended last. Of two with one operation, the later one counts. */
  readonly leases: readonly Lease[];
}

/** Where counters are kept. Every engine passes test/quotas/counters/conformance.ts. */
export interface CounterEngine {
  /** One reply for each ask, in order, in one round trip. Asks of one meter take effect in their order. */
  run(asks: readonly CounterRequest[]): Promise<Reply[]>;
  /** Puts a snapshot in the place of nothing; changes nothing when the token of `missing` is void. */
  prime(meter: Meter, token: string, snapshot: Snapshot): Promise<void>;
  /**
   * Puts back a lease of the ledger that the meter does not know; else changes nothing. A running lease takes its slot
   * and its points again. A settled one charges nothing: the meter was primed with it, or has charged it.
   */
  restore(meter: Meter, rules: Rules, lease: Lease): Promise<void>;
  /** Drops a meter whose counters the ledger contradicts: the next ask finds it missing. */
  forget(meter: Meter): Promise<void>;
  /**
   * Forgets everything that was kept under an earlier number: what is kept by then cannot be trusted.
   * @param owner names the database whose ledger is behind the counters; those of another one are not looked at
   */
  setGeneration(generation: number, owner?: string): void;
}
