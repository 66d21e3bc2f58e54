import type { Clock, Span } from "./clock.ts";
import { firstSettled, isOpen, type Lease, type Operation, rowOf } from "./leases.ts";
import type { Step } from "./steps.ts";

/** The points and the slot that one lease holds over time. */
export interface Charge {
  /** The day of its points. Undefined when no row gives it. */
  readonly day: number | undefined;
  readonly steps: readonly Step[];
  /** The slot alone: 1 or 0. */
  readonly slot: readonly Step[];
  /** Increases that no limit refuses: settlements beyond the reserved points. */
  readonly beyond: readonly Step[];
}

/** Returns what a lease certainly holds, whatever the unanswered calls did. */
export function certainCharge(operation: Operation, lease: Lease, clock: Clock): Charge {
  const settled = firstSettled(operation, lease);
  const endSent = firstEnd(operation, lease);
  const hasRelease = operation.ends.some(({ call }) => call === "release");
  const settledPoints = operation.ends.filter(({ call }) => call === "settle").map(({ points = 0 }) => points);
  const inDoubt = hasRelease ? 0 : Math.min(operation.points, ...settledPoints);
  const isLast = [...operation.leases.values()].at(-1) === lease;
  const settledAt =
    isLast && settled !== undefined ? Math.max(settled.answered, lease.answered) : Number.POSITIVE_INFINITY;
  const live = union(
    lease.acks.map(({ answered, expire }) => ({ from: answered, to: clock.mayReach(expire, answered) })),
  );
  const steps: Step[] = [];
  const slot: Step[] = [];
  const beyond: Step[] = [];
  let before = 0;
  for (const { from, to } of live) {
    add(steps, from, Math.min(to, endSent), operation.points);
    add(slot, from, Math.min(to, endSent), 1);
    add(steps, Math.max(from, endSent), Math.min(to, settledAt), inDoubt);
    if (from < settledAt && settledAt < to) before = settledAt <= endSent ? operation.points : inDoubt;
  }
  if (settledAt < Number.POSITIVE_INFINITY) {
    const points = settled?.points ?? 0;
    steps.push({ at: settledAt, by: points });
    if (points > before) beyond.push({ at: settledAt, by: points - before });
  }
  return { day: rowOf(operation, lease)?.day, steps, slot, beyond };
}

/** Returns the most that an operation may hold: each unanswered call may have taken effect. */
export function possibleCharge(operation: Operation, clock: Clock): Charge {
  const { attempts, ends, points, rows, leases } = operation;
  const granting = attempts.filter(({ item }) => item.lease !== undefined || isOpen(item.failure));
  const settlements = ends.filter(
    ({ call, failure }) => call === "settle" && (failure === undefined || isOpen(failure)),
  );
  const day = rows.length === 1 ? rows[0]?.day : undefined;
  if (granting.length === 0 && settlements.length === 0 && rows.length === 0)
    return { day, steps: [], slot: [], beyond: [] };
  const from = Math.min(...attempts.map(({ sent }) => sent));
  const lasts = [
    ...granting
      .filter(({ item }) => item.expire === undefined)
      .map(({ answered }) => clock.most(answered, answered + lateMs) + mostTtlMs),
    ...[...leases.values()].flatMap(({ acks }) => acks.map(({ expire }) => expire)),
    ...ends
      .filter(({ call, failure }) => call === "renew" && isOpen(failure))
      .map(({ answered }) => clock.most(answered, answered + lateMs) + mostTtlMs),
    ...rows.map(({ expireMs }) => expireMs),
  ];
  const certainEnd = ends
    .filter(({ call, failure }) => call !== "renew" && failure === undefined)
    .map(({ answered }) => answered);
  // An operation that is requested again after its end may hold points again.
  const lastAsked = Math.max(...granting.map(({ sent }) => sent), Number.NEGATIVE_INFINITY);
  const gone = Math.min(...certainEnd.filter((at) => at > lastAsked), Number.POSITIVE_INFINITY);
  const isDelayed =
    granting.some(({ item }) => isOpen(item.failure)) ||
    ends.some(({ call, failure }) => call === "renew" && isOpen(failure));
  const until =
    isDelayed && !ends.some(({ call, failure }) => call === "settle" && failure === undefined)
      ? Number.POSITIVE_INFINITY
      : gone;
  const steps: Step[] = [];
  const slot: Step[] = [];
  const held = union(lasts.length === 0 ? [] : clock.mayPrecede(Math.max(...lasts), from));
  for (const span of held) {
    add(steps, span.from, Math.min(span.to, until), points);
    add(slot, span.from, Math.min(span.to, until), 1);
  }
  const most = Math.max(...settlements.map(({ points = 0 }) => points), 0);
  if (settlements.length > 0) steps.push({ at: Math.min(...settlements.map(({ sent }) => sent)), by: most });
  return { day, steps, slot, beyond: [] };
}

/** The maximum time that a call may run after its caller gave up, and the longest requested lease. */
const lateMs = 25_000;
const mostTtlMs = 20_000;

/** Returns when a call that may end the lease was first sent. */
function firstEnd({ ends }: Operation, { sent }: Lease): number {
  const sents = ends
    .filter(({ call, failure }) => call !== "renew" && (failure === undefined || isOpen(failure)))
    // A call answered before the lease was requested ended an earlier lease.
    .filter(({ answered, failure }) => answered >= sent || isOpen(failure))
    .map((one) => one.sent);
  return Math.min(...sents, Number.POSITIVE_INFINITY);
}

function add(steps: Step[], from: number, to: number, by: number): void {
  if (from >= to || by === 0) return;
  steps.push({ at: from, by }, { at: to, by: -by });
}

function union(spans: readonly Span[]): Span[] {
  const result: Span[] = [];
  for (const span of spans.toSorted((left, right) => left.from - right.from)) {
    const last = result.at(-1);
    if (last !== undefined && span.from <= last.to)
      result[result.length - 1] = { from: last.from, to: Math.max(last.to, span.to) };
    else if (span.from < span.to) result.push(span);
  }
  return result;
}
