import type { Day } from "../../shared/calendar.ts";
import type { Lease, Meter } from "../counters/engine.ts";

/**
 * The current state of a lease, complete: the first entry of a lease inserts its row, whichever it is. Entries may repeat
 * and arrive late. A settlement wins, then the later grant, then the later state.
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
  /**
   * Whether the company, tracecode and holder are those of the grant. Otherwise they are those of the caller that ended the
   * lease, and an earlier entry of the lease knows better.
   */
  readonly isHolderKnown: boolean;
  /** Whether the lease was granted in fail-open, while the shared counters were unavailable. */
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
        /** The operation for the audit log. */
        readonly operation: string;
        /** The server that calculated. Undefined means the holder. */
        readonly server: string | undefined;
      };
}

export type SettledEntry = LedgerEntry & { readonly end: Extract<LedgerEntry["end"], { state: "settled" }> };

/** Whether an entry settles its lease. */
export function isSettled(entry: LedgerEntry): entry is SettledEntry {
  return entry.end.state === "settled";
}

/** Converts a lease of the counters to an entry of the ledger. */
export function toEntry(options: {
  readonly meter: Meter;
  readonly subject: { readonly username: string; readonly companyKey: string };
  readonly lease: Lease;
  /** Used as the holder when the lease has ended and the counters no longer know it. */
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
    isHolderKnown: lease.holder !== "",
    degraded,
    end,
  };
}

/** The holder of a lease. The counters keep it as text beside the lease. */
export interface Holder {
  readonly tracecode: string;
  /** The account of the service that acquired the lease. */
  readonly username: string;
  /** The company of the lease's user at the grant. A settlement on any server charges it. Undefined if the grant was lost. */
  readonly companyKey?: string | undefined;
}

/** Returns a holder as the text that the counters keep. */
export function toHolderText({ tracecode, username, companyKey }: Holder): string {
  return [tracecode, username, ...(companyKey === undefined ? [] : [companyKey])].join(" ");
}

/** Reads the text of toHolderText. */
export function parseHolder(text: string): Holder {
  const [tracecode = "", username = "", companyKey] = text.split(" ", 3);
  return { tracecode, username, companyKey };
}

/** Names a lease, and sorts as its row does. */
export function leaseKeyOf({ meter, day, operationId }: LedgerEntry): string {
  return [meter.userId, meter.service, meter.methodGroup, day, operationId].join(" ");
}

/** Names the day of a meter on which a lease is charged. */
export function dayKeyOf({ meter, day }: LedgerEntry): string {
  return [meter.userId, meter.service, meter.methodGroup, day].join(" ");
}

/**
 * Merges two entries of one lease. A settlement wins, then the later grant. Entries of one grant give the later state, the
 * latest expiry, and the user, company and holder of the entry with the earlier state. The company and the holder of a
 * winner that does not know them come from the other entry.
 */
export function mergeEntries(first: LedgerEntry, second: LedgerEntry): LedgerEntry {
  const degraded = first.degraded || second.degraded;
  if (first.grantedMs !== second.grantedMs) {
    const [earlier, later] = first.grantedMs < second.grantedMs ? [first, second] : [second, first];
    const [winner, loser] = isSettled(earlier) ? [earlier, later] : [later, earlier];
    return { ...winner, ...(!winner.isHolderKnown && holderOf(loser)), degraded };
  }
  const [firstState, secondState] = [stateNumbers[first.end.state], stateNumbers[second.end.state]];
  const further = secondState > firstState ? second : first;
  const expireMs = Math.max(first.expireMs, second.expireMs);
  return { ...further, ...holderOf(secondState < firstState ? second : first), expireMs, degraded };
}

function holderOf({ username, companyKey, tracecode, holder, isHolderKnown }: LedgerEntry) {
  return { username, companyKey, tracecode, holder, isHolderKnown };
}

/** States as the table has them: a lease only ever goes up. */
export const stateNumbers = { granted: 0, released: 1, settled: 2 };
