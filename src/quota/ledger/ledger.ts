import type { Day, Meter } from "../counters/engine.ts";

/**
 * A whole lease as it stands now: whichever of its entries comes first makes the row. An entry may come twice and late:
 * the furthest state wins.
 */
export interface LedgerEntry {
  readonly meter: Meter;
  readonly username: string;
  /** UUID, lower case. */
  readonly operationId: string;
  readonly day: Day;
  /** The offset at which the day is counted, in hours. */
  readonly timezone: number;
  readonly points: number;
  readonly grantedMs: number;
  readonly expireMs: number;
  readonly tracecode: string;
  readonly holder: string;
  /** Granted while the counters were out of reach. */
  readonly degraded: boolean;
  readonly end:
    | { readonly state: "granted" }
    | { readonly state: "released"; readonly endedMs: number }
    | {
        readonly state: "settled";
        readonly endedMs: number;
        readonly points: number;
        /** 64-bit hashes of the points, for counting unique ones. */
        readonly pointKeys: readonly bigint[];
        readonly durationMs: number | undefined;
        /** Number of Outcome.Name. */
        readonly outcome: number;
      };
}

/** Writes leases to PostgreSQL by group commit, and the usage of settled ones with them. */
export interface Ledger {
  /** Whether it takes entries now: false while PostgreSQL is so slow that the queue is full. */
  hasRoom(): boolean;
  /** Takes an entry that is written within 50 ms while PostgreSQL answers, and tried again while it does not. */
  append(entry: LedgerEntry): void;
  /**
   * As append; resolves when the entry is committed.
   * @throws UNAVAILABLE when that takes too long or the queue is full; the entry may still be written
   */
  commit(entry: LedgerEntry): Promise<void>;
  /** Resolves when everything that was taken before is committed. */
  flush(): Promise<void>;
}
