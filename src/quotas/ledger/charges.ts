import type { Charge, DayLimits } from "../../shared/alerts.ts";
import type { SettledEntry } from "./entry.ts";

/** A lease that a transaction has settled, with the points of its method group. */
export interface SettledLease {
  readonly entry: SettledEntry;
  readonly limits: DayLimits;
  readonly username: string;
  readonly companyKey: string;
  readonly tracecode: string;
  /** The points of the lease's day, with those of this transaction. */
  readonly dayPoints: number;
  /** The points of the other days of the window, without those of this transaction. */
  readonly otherDayPoints: number;
}

interface ChargedDay {
  /** The last lease of the day. */
  lease: SettledLease;
  added: number;
}

/** Adds up the points that a transaction charges, by user, service, method group and day. */
export function chargesOf(leases: readonly SettledLease[]): Charge[] {
  const meters = new Map<string, Map<number, ChargedDay>>();
  for (const lease of leases) {
    const { meter, day, end } = lease.entry;
    const key = [meter.userId, meter.service, meter.methodGroup].join(" ");
    const days = meters.get(key) ?? new Map<number, ChargedDay>();
    meters.set(key, days.set(day, { lease, added: (days.get(day)?.added ?? 0) + end.points }));
  }
  return [...meters.values()].flatMap((days) => [...days.values()].map((day) => toCharge(day, days)));
}

function toCharge({ lease, added }: ChargedDay, days: ReadonlyMap<number, ChargedDay>): Charge {
  const { entry, limits, username, companyKey, tracecode, dayPoints, otherDayPoints } = lease;
  const { day, meter, end } = entry;
  const { userId, service, methodGroup } = meter;
  const { from, to } = limits.window;
  const addedOtherDays = [...days].reduce(
    (sum, [other, charged]) => (other !== day && from <= other && other < to ? sum + charged.added : sum),
    0,
  );
  return {
    userId,
    username,
    companyKey,
    service,
    methodGroup,
    day,
    limits,
    ofDay: { total: dayPoints, added },
    ofWindow: { total: dayPoints + otherDayPoints + addedOtherDays, added: added + addedOtherDays },
    timeMicros: Math.round(end.endedMs * 1000),
    tracecode,
  };
}
