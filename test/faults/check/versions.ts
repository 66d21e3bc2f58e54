import type { ChangeLine, FaultLine, Limits, Line } from "../history/records.ts";
import type { Span } from "./clock.ts";
import { groupBy } from "./group.ts";

/** The settings that may have been in force for a user between two times. */
export interface Versions {
  limits(user: string, group: number, from: number, to: number): { base: Limits[]; periods: (Period | undefined)[] };
  timezones(user: string, from: number, to: number): number[];
  /** Each UTC offset that the user may have had, and its time span. */
  timezoneSpans(user: string): readonly (Span & { readonly value: number })[];
  companies(user: string, from: number, to: number): string[];
  /** The earliest time at which the user may exist, and the time from which it certainly does not. */
  life(user: string): Span;
}

export interface Period {
  readonly from: number;
  readonly to: number;
  readonly limits: Limits | undefined;
}

interface Version<Value> extends Span {
  readonly value: Value;
}

/** A server that missed the notification of a change reads again after five seconds, once it reaches PostgreSQL. */
const staleMs = 6000;
/** The maximum time after sending within which an unacknowledged change may take effect. */
const lateMs = 25_000;

export function createVersions(lines: readonly Line[]): Versions {
  const faults = lines.filter((line) => line.call === "fault" && /server|postgres/.test(line.kind)) as FaultLine[];
  const byUser = groupBy(
    lines.filter((line) => line.call === "change"),
    ({ user }) => user,
  );
  const cached = new Map<string, Version<unknown>[]>();

  /** Returns every value of one kind, with the time span in which it may have been in force. */
  function versionsOf<Value>(
    user: string,
    kind: string,
    pick: (line: ChangeLine) => Value | undefined,
  ): Version<Value>[] {
    const key = `${user} ${kind}`;
    const known = cached.get(key);
    if (known !== undefined) return known as Version<Value>[];
    const changes = (byUser.get(user) ?? []).flatMap((line) => {
      const value = pick(line);
      return value === undefined ? [] : [{ line, value }];
    });
    const versions = changes.map(({ line, value }, place) => {
      const next = changes.slice(place + 1).find(({ line: later }) => later.failure === undefined);
      const until = next === undefined ? Number.POSITIVE_INFINITY : lastUse(next.line.answered, faults);
      return {
        value,
        from: line.sent,
        to: line.failure === undefined ? until : Math.max(until, line.sent + lateMs + staleMs),
      };
    });
    cached.set(key, versions);
    return versions;
  }

  const valuesOf = <Value>(versions: readonly Version<Value>[], from: number, to: number) =>
    versions.filter((version) => version.from <= to && from <= version.to).map(({ value }) => value);

  return {
    limits(user, group, from, to) {
      const base = versionsOf(user, `base ${group}`, ({ what }) =>
        what.kind === "base" ? what.limits[group] : undefined,
      );
      const periods = versionsOf<Period | null>(user, `period ${group}`, ({ what }) => {
        if (what.kind === "created") return null;
        return what.kind === "period" ? { from: what.from, to: what.to, limits: what.limits?.[group] } : undefined;
      });
      const inForce = valuesOf(periods, from, to).map((period) => (period?.limits === undefined ? undefined : period));
      return { base: valuesOf(base, from, to), periods: inForce };
    },
    timezones: (user, from, to) => valuesOf(timezonesOf(user), from, to),
    timezoneSpans: timezonesOf,
    companies(user, from, to) {
      const versions = versionsOf(user, "company", ({ what }) =>
        what.kind === "company" || what.kind === "created" ? what.company : undefined,
      );
      return valuesOf(versions, from, to);
    },
    life(user) {
      const changes = byUser.get(user) ?? [];
      const deleted = changes.find(({ what, failure }) => what.kind === "deleted" && failure === undefined);
      return {
        from: changes[0]?.sent ?? Number.NEGATIVE_INFINITY,
        to: deleted === undefined ? Number.POSITIVE_INFINITY : lastUse(deleted.answered, faults),
      };
    },
  };

  function timezonesOf(user: string) {
    return versionsOf(user, "timezone", ({ what }) =>
      what.kind === "timezone" || what.kind === "created" ? what.timezone : undefined,
    );
  }
}

/** How long a server may keep using old settings: faults keep it from notifications and from reading. */
function lastUse(answered: number, faults: readonly FaultLine[]): number {
  let until = answered + staleMs;
  for (const fault of faults) {
    if (fault.sent <= until && answered <= fault.answered) until = Math.max(until, fault.answered + staleMs);
  }
  return until;
}
