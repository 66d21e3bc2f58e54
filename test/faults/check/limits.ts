import type { Limits } from "../history/records.ts";
import { type Charge, certainCharge, possibleCharge } from "./charges.ts";
import type { Clock } from "./clock.ts";
import { groupBy } from "./group.ts";
import { type Lease, type Operation, rowOf } from "./leases.ts";
import { createSteps, type Steps } from "./steps.ts";
import type { Verdicts } from "./verdicts.ts";
import type { Period, Versions } from "./versions.ts";

interface Options {
  readonly operations: readonly Operation[];
  readonly clock: Clock;
  readonly versions: Versions;
  readonly verdicts: Verdicts;
}

const dayMs = 86_400_000;
const hourMs = 3_600_000;

/** Every grant had room, every refusal had none, whichever of the possible limits and charges were the true ones. */
export function checkLimits({ operations, clock, versions, verdicts }: Options): void {
  for (const meter of groupBy(operations, ({ user, group }) => `${user} ${group}`).values()) {
    const grants = meter.flatMap((operation) =>
      [...operation.leases.values()].map((lease) => ({
        operation,
        lease,
        charge: certainCharge(operation, lease, clock),
      })),
    );
    const certain = createSums(grants.map(({ charge }) => charge));
    for (const { operation, lease } of grants) checkGrant(operation, lease, certain);
    const possible = createSums(meter.map((operation) => possibleCharge(operation, clock)));
    for (const operation of meter) checkRefusals(operation, possible);
    checkDays(grants);
  }

  function checkGrant(operation: Operation, lease: Lease, certain: Sums): void {
    const { user, group, points } = operation;
    const { sent, answered } = lease;
    const row = rowOf(operation, lease);
    const { base, periods } = versions.limits(user, group, sent, answered);
    const options = base.flatMap((one) => periods.map((period) => inForce(one, period, row?.day)));
    const name = `${operation.op} of ${user} ${group}, ${points} points, granted between ${sent.toFixed()} and ${answered.toFixed()}`;
    const slots = certain.slots();
    // The last grant of those that run now was decided when all of them ran. It may be of a later day than this one.
    const running = Math.max(slots.at(answered), slots.least(sent, answered) + 1);
    const days = [row?.day ?? 0, ...possibleDays(user, sent, { sent, answered })];
    const limits = base.flatMap((one) =>
      periods.flatMap((period) => days.map((day) => inForce(one, period, day).limits)),
    );
    verdicts.expect(
      "no grant beyond max_concurrent_execution",
      limits.some((limit) => running <= limit.running),
      () => `${name}: ${running} run, allowed are ${[...new Set(limits.map((limit) => limit.running))].join(" or ")}`,
    );
    verdicts.expect(
      "no grant beyond points_per_request",
      options.some(({ limits }) => limits.perRequest > 0 && points <= limits.perRequest),
      () => `${name}: allowed are ${options.map(({ limits }) => limits.perRequest).join(" or ")}`,
    );
    const life = versions.life(user);
    verdicts.expect("no grant for a deleted user", sent <= life.to && answered >= life.from, () => name);
    if (row === undefined) return;
    const day = certain.granted(`day ${row.day}`, (of) => of === row.day, lease, points);
    verdicts.expect(
      "no grant beyond points_per_day",
      options.some(({ limits }) => limits.perDay > 0 && day <= limits.perDay),
      () =>
        `${name}: ${day} points on day ${row.day}, allowed are ${options.map(({ limits }) => limits.perDay).join(" or ")}`,
    );
    const windows = options.map(({ limits, from, to }) => ({
      most: limits.perWindow,
      points: certain.granted(`${from} ${to}`, (of) => from <= of && of < to, lease, points),
    }));
    verdicts.expect(
      "no grant beyond points_per_date_window",
      windows.some(({ most, points: used }) => most === undefined || (most > 0 && used <= most)),
      () => `${name}: ${windows.map((one) => `${one.points} points of ${one.most}`).join(" or ")}`,
    );
    const others = versions.companies(user, sent, answered);
    verdicts.expect(
      "a lease belongs to the user's company",
      // A later grant without an answer may have taken the row.
      others.includes(row.company) || operation.leases.size > 1 || Math.abs(row.grantedMs - lease.granted) > 1,
      () => `${name}: ${row.company}, not ${others.join(" or ")}`,
    );
    const zones = versions.timezones(user, 0, answered);
    const allDays = possibleDays(user, 0, lease);
    verdicts.expect(
      "a lease belongs to the user's day",
      (allDays.includes(row.day) && zones.includes(row.timezone)) ||
        operation.leases.size > 1 ||
        Math.abs(row.grantedMs - lease.granted) > 1,
      () => `${name}: day ${row.day} at ${row.timezone} hours, not ${allDays.join(" or ")} at ${zones.join(" or ")}`,
    );
  }

  function checkRefusals(operation: Operation, possible: Sums): void {
    const { user, group, points } = operation;
    for (const { sent, answered, item } of operation.attempts) {
      const violated = item.violated ?? reasonLimits[item.failure?.reason ?? ""] ?? [];
      if (violated.length === 0 || item.failure?.code === "Unavailable") continue;
      const { base, periods } = versions.limits(user, group, sent, answered);
      const options = base.flatMap((one) => [one, ...periods.flatMap((period) => period?.limits ?? [])]);
      const name = `${operation.op} of ${user} ${group}, ${points} points, refused between ${sent.toFixed()} and ${answered.toFixed()}`;
      if (violated.includes("running")) {
        const running = possible.slots().most(sent, answered);
        verdicts.expect(
          "no slot held past its lease",
          options.some((limits) => limits.running === 0 || running + 1 > limits.running),
          () => `${name}: at most ${running} run, allowed are ${options.map((limits) => limits.running).join(" or ")}`,
        );
      }
      if (violated.includes("day")) {
        const used = possibleDays(user, 0, { sent, answered }).map((day) =>
          possible.points(`day ${day}`, (of) => of === day).most(sent, answered),
        );
        const most = Math.max(0, ...used) + possible.unplaced().most(sent, answered);
        verdicts.expect(
          "no acquire refused below points_per_day",
          options.some((limits) => limits.perDay === 0 || most + points > limits.perDay),
          () => `${name}: at most ${most} used, allowed are ${options.map((limits) => limits.perDay).join(" or ")}`,
        );
      }
    }
  }

  /** The days that the user may have had during the call, if the day in force may have begun at `sinceMs`. */
  function possibleDays(user: string, sinceMs: number, { sent, answered }: Pick<Lease, "sent" | "answered">): number[] {
    const zones = versions.timezones(user, 0, answered);
    const first = Math.floor((clock.least(sent, answered) + Math.min(...zones) * hourMs) / dayMs);
    const last = Math.floor((clock.most(sinceMs, answered) + Math.max(...zones) * hourMs) / dayMs);
    return Array.from({ length: Math.max(0, last - first + 1) }, (_, index) => first + index);
  }

  /** A day begins after the later of the midnights at the offsets of the one before it and of the user. */
  function checkDays(grants: readonly { operation: Operation; lease: Lease; charge: Charge }[]): void {
    const days = new Map<number, { timezone: number; sums: Steps }>();
    const placed = grants.filter(({ charge }) => charge.day !== undefined);
    for (const [day, of] of groupBy(placed, ({ charge }) => charge.day as number)) {
      const zones = of.map(({ operation, lease }) => rowOf(operation, lease)?.timezone ?? 0);
      days.set(day, { timezone: Math.max(...zones), sums: createSteps(of.flatMap(({ charge }) => charge.steps)) });
    }
    for (const { operation, lease, charge } of placed) {
      const { sent, answered } = lease;
      const day = charge.day as number;
      if (operation.leases.size > 1) continue;
      for (const before of [day - 1, day - 2]) {
        const used = days.get(before);
        if (used === undefined || used.sums.least(sent, answered) <= 0) continue;
        // Any call may have begun the day, at the offset of its time.
        const early = Math.min(
          ...versions
            .timezoneSpans(operation.user)
            .filter(({ from }) => from <= answered)
            .map(({ from, to, value }) => {
              const midnight = (before + 1) * dayMs - Math.min(used.timezone, value) * hourMs;
              return midnight - clock.most(from, Math.min(to, answered));
            }),
        );
        verdicts.expect("no day begins before the last one ends", early <= 0, () => {
          const hours = (early / hourMs).toFixed(1);
          return `${operation.op} of ${operation.user} ${operation.group}: day ${day} ${hours} hours before the end of day ${before}`;
        });
      }
    }
  }
}

const reasonLimits: Readonly<Record<string, readonly string[]>> = {
  CONCURRENCY_LIMIT_EXCEEDED: ["running"],
  DAILY_POINTS_EXCEEDED: ["day"],
};

interface InForce {
  readonly from: number;
  readonly to: number;
  readonly limits: Limits;
}

/** The limits and the window of a day. A period of one day has no window. */
function inForce(base: Limits, period: Period | undefined, day = 0): InForce {
  if (period?.limits !== undefined && period.from <= day && day < period.to) {
    const { from, to, limits } = period;
    const { perWindow, ...others } = limits;
    return { from, to, limits: to === from + 1 || perWindow === undefined ? others : { ...others, perWindow } };
  }
  const date = new Date(day * dayMs);
  const [year, month] = [date.getUTCFullYear(), date.getUTCMonth()];
  return { from: Date.UTC(year, month) / dayMs, to: Date.UTC(year, month + 1) / dayMs, limits: base };
}

interface Sums {
  slots(): Steps;
  points(key: string, has: (day: number) => boolean): Steps;
  /** Of charges whose day is not known. */
  unplaced(): Steps;
  /** The state by which the last grant up to this lease's answer was decided, with that grant included. */
  granted(key: string, has: (day: number) => boolean, lease: Lease, points: number): number;
}

/** Sums of a meter's charges, made when they are first asked for. */
function createSums(charges: readonly Charge[]): Sums {
  const made = new Map<string, Steps>();
  const get = (key: string, steps: () => Charge["steps"]) => {
    const known = made.get(key);
    if (known !== undefined) return known;
    const sums = createSteps(steps());
    made.set(key, sums);
    return sums;
  };
  const within = (has: (day: number) => boolean) => charges.filter(({ day }) => day !== undefined && has(day));
  const points = (key: string, has: (day: number) => boolean) =>
    get(key, () => within(has).flatMap(({ steps }) => steps));
  return {
    slots: () => get("slots", () => charges.flatMap(({ slot }) => slot)),
    points,
    unplaced: () => get("unplaced", () => charges.filter(({ day }) => day === undefined).flatMap(({ steps }) => steps)),
    granted(key, has, { sent, answered }, own) {
      const sums = points(key, has);
      const beyond = get(`beyond ${key}`, () => within(has).flatMap((charge) => charge.beyond));
      const after = sums.at(answered) - (beyond.at(answered) - beyond.at(sent));
      return Math.max(after, sums.least(sent, answered) + own);
    },
  };
}
