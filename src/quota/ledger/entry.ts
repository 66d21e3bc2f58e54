import type { Lease, Meter } from "../counters/engine.ts";
import { parseHolder } from "../lease-messages.ts";
import type { LedgerEntry } from "./ledger.ts";

/** A lease as the counters know it, as an entry of the ledger. */
export function toEntry(options: {
  readonly meter: Meter;
  readonly subject: { readonly username: string; readonly timezone: number };
  readonly lease: Lease;
  /** Stands in for the holder of a lease that has ended, whom the counters have forgotten. */
  readonly asker: { readonly username: string; readonly tracecode: string };
  readonly degraded?: boolean;
  readonly end: LedgerEntry["end"];
}): LedgerEntry {
  const { meter, subject, lease, asker, degraded = false, end } = options;
  const { operationId, day, points, grantedMs, expireMs } = lease;
  const holder = lease.holder === "" ? asker : parseHolder(lease.holder);
  return {
    meter,
    username: subject.username,
    operationId,
    day,
    timezone: subject.timezone,
    points,
    grantedMs,
    expireMs,
    tracecode: holder.tracecode,
    holder: holder.username,
    degraded,
    end,
  };
}
