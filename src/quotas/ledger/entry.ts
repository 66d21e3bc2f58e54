import type { Day, Lease, Meter } from "../counters/engine.ts";

/**
 * A whole lease as it stands now: whichever of its entries comes first makes the row. An entry may come twice and late:
 * a settlement wins, then the later grant, then the furthest state.
 */
export interface LedgerEntry {
  readonly meter: Meter;
  readonly username: string;
  readonly companyKey: string;
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
        /** What was calculated, as the audit log names it. */
        readonly operation: string;
        /** Where it was calculated; undefined: the holder. */
        readonly server: string | undefined;
      };
}

/** A lease as the counters know it, as an entry of the ledger. */
export function toEntry(options: {
  readonly meter: Meter;
  readonly subject: { readonly username: string; readonly companyKey: string };
  readonly lease: Lease;
  /** Stands in for the holder of a lease that has ended, whom the counters have forgotten. */
  readonly caller: { readonly username: string; readonly tracecode: string };
  readonly degraded?: boolean;
  readonly end: LedgerEntry["end"];
}): LedgerEntry {
  const { meter, subject, lease, caller, degraded = false, end } = options;
  const { operationId, day, timezone, points, grantedMs, expireMs } = lease;
  const holder: Holder = lease.holder === "" ? caller : parseHolder(lease.holder);
  return {
    meter,
    username: subject.username,
    companyKey: holder.companyKey ?? subject.companyKey,
    operationId,
    day,
    timezone,
    points,
    grantedMs,
    expireMs,
    tracecode: holder.tracecode,
    holder: holder.username,
    degraded,
    end,
  };
}

/** Who holds a slot, as the counters keep it beside the lease. */
export interface Holder {
  readonly tracecode: string;
  /** The user of the service that asked. */
  readonly username: string;
  /**
   * The company of the lease's user at the grant. A settlement charges it, on any server. Undefined where the grant is lost.
   */
  readonly companyKey?: string | undefined;
}

export function toHolderText({ tracecode, username, companyKey }: Holder): string {
  return [tracecode, username, ...(companyKey === undefined ? [] : [companyKey])].join(" ");
}

export function parseHolder(text: string): Holder {
  const [tracecode = "", username = "", companyKey] = text.split(" ", 3);
  return { tracecode, username, companyKey };
}
