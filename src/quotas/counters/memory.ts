import { LRUCache } from "lru-cache";
import { dayAt, dayMs, hourMs } from "../../shared/calendar.ts";
import type {
  Acquisition,
  CounterEngine,
  Lease,
  LimitName,
  MeterState,
  Missing,
  Remembered,
  Reply,
  Rules,
  Snapshot,
} from "./engine.ts";
import { keysOf } from "./keys.ts";
import { windowAt } from "./window.ts";

export interface MemoryEngineOptions {
  /** Milliseconds since the epoch. */
  readonly now: () => number;
  readonly remember: Remembered;
}

/** An evicted meter loses nothing: it is primed again from the ledger. */
const maxMeters = 20_000;

/** Creates counters in this process, for a single server. They behave like meter.lua. */
export function createMemoryEngine({ now, remember }: MemoryEngineOptions): CounterEngine {
  /** The token that a prime of the meter must present. Void once the meter is lost. */
  const tokens = new LRUCache<string, string>({ max: maxMeters });
  const meters = new LRUCache<string, State>({ max: maxMeters, dispose: (_state, key) => void tokens.delete(key) });
  let tokenCount = 0;

  function tokenOf(key: string): string {
    const token = tokens.get(key) ?? String((tokenCount += 1));
    tokens.set(key, token);
    return token;
  }

  function openMeter(key: string, rules: Rules): CommandContext | Missing {
    const context = advance(meters.get(key), rules, now(), remember);
    return "state" in context ? context : { kind: "missing", token: tokenOf(key), nowMs: now(), ...context };
  }

  return {
    run: async (requests) =>
      requests.map(({ meter, rules, command }) => {
        const key = keysOf(meter, "")[0];
        const context = openMeter(key, rules);
        if ("kind" in context) return context;
        switch (command.kind) {
          case "acquire":
            return acquire(context, command);
          case "check":
            return check(context, command.points);
          case "renew":
            return renew(context, command);
          case "settle":
            tokens.delete(key);
            return settle(context, command);
          case "release":
            return release(context, command.operationId);
          case "usage":
            return done(context, undefined, undefined);
          case "leases":
            return list(context);
        }
      }),
    async prime(meter, token, snapshot) {
      const [key] = keysOf(meter, "");
      if (tokens.get(key) !== token) return;
      tokens.delete(key);
      const state = meters.get(key);
      if (state === undefined) meters.set(key, toState(snapshot, remember));
      else setWindow(state, snapshot);
    },
    async restore(meter, rules, lease) {
      const context = openMeter(keysOf(meter, "")[0], rules);
      if (!("kind" in context)) restore(context, lease);
    },
    async forget(meter) {
      const [key] = keysOf(meter, "");
      tokens.delete(key);
      meters.delete(key);
    },
    setGeneration() {
      meters.clear();
      tokens.clear();
    },
  };
}

interface EndedLease {
  lease: Lease;
  forgetMs: number;
}

interface State {
  /** The offset at which the day is counted, in hours. */
  offset: number;
  day: number;
  dayUsed: number;
  dayReserved: number;
  from: number;
  to: number;
  windowUsed: number;
  windowReserved: number;
  /** By operation id. */
  running: Map<string, Lease>;
  /** By operation id, in the order of `forgetMs`. */
  ended: Map<string, EndedLease>;
  /** No live lease expires before this time. */
  nextExpireMs: number;
}

/** The state, rules and time that a command works on. */
interface CommandContext {
  readonly state: State;
  readonly rules: Rules;
  readonly nowMs: number;
  readonly remember: Remembered;
  readonly limits: Rules["quotas"][number] | undefined;
}

/** Moves a meter to the present day and window. Returns the day and window to prime when the meter lacks them. */
function advance(
  state: State | undefined,
  rules: Rules,
  nowMs: number,
  remember: Remembered,
): CommandContext | Pick<Missing, "day" | "window"> {
  const { timezone } = rules;
  if (state === undefined) {
    const day = dayAt(nowMs, timezone);
    return { day, window: windowAt(day, rules.quotas).window };
  }
  sweep(state, nowMs, remember);
  // A day ends at the later midnight of its own offset and the user's present offset, so no day is granted twice.
  if (nowMs >= dayEnd(state, rules)) {
    state.day = dayAt(nowMs, timezone);
    state.offset = timezone;
    state.dayUsed = 0;
    state.dayReserved = 0;
  }
  const { window, limits } = windowAt(state.day, rules.quotas);
  if (window.from !== state.from || window.to !== state.to) {
    // Only the ledger knows the points of a window that began on an earlier day.
    if (window.from !== state.day) return { day: state.day, window };
    Object.assign(state, window, { windowUsed: state.dayUsed, windowReserved: state.dayReserved });
  }
  return { state, rules, nowMs, remember, limits };
}

function sweep(state: State, nowMs: number, remember: Remembered): void {
  if (nowMs >= state.nextExpireMs) {
    const late = [...state.running.values()].filter(({ expireMs }) => expireMs <= nowMs);
    for (const lease of late.toSorted((left, right) => left.expireMs - right.expireMs)) {
      addEnded(state, { ...lease, state: "expired" }, lease.expireMs + remember.ms);
    }
    state.nextExpireMs = Math.min(...[...state.running.values()].map(({ expireMs }) => expireMs));
  }
  for (const [operationId, { forgetMs }] of state.ended) {
    if (forgetMs > nowMs && state.ended.size <= remember.operations) break;
    state.ended.delete(operationId);
  }
}

function dayEnd({ day, offset }: State, { timezone }: Rules): number {
  return (day + 1) * dayMs - Math.min(offset, timezone) * hourMs;
}

function acquire(context: CommandContext, { operationId, points, ttlMs, holder }: Acquisition): Reply {
  const { state, nowMs } = context;
  const known = find(state, operationId);
  if (known?.state === "active" && known.points === points) return done(context, known, known.state);
  if (known?.state === "active" || known?.state === "settled") {
    return { kind: "conflict", meterState: meterState(context), lease: known };
  }
  const violated = violations(context, state.day, points, true);
  if (violated !== undefined) return { kind: "refused", meterState: meterState(context), violated, lease: undefined };
  const lease: Lease = {
    operationId,
    day: state.day,
    timezone: state.offset,
    points,
    state: "active",
    grantedMs: nowMs,
    expireMs: nowMs + ttlMs,
    settledPoints: undefined,
    holder,
  };
  addRunning(state, lease);
  return done(context, lease, known?.state);
}

function check(context: CommandContext, points: number): Reply {
  const violated = violations(context, context.state.day, points, true);
  if (violated === undefined) return done(context, undefined, undefined);
  return { kind: "refused", meterState: meterState(context), violated, lease: undefined };
}

function renew(context: CommandContext, { operationId, ttlMs }: { operationId: string; ttlMs: number }): Reply {
  const { state, nowMs } = context;
  const known = find(state, operationId);
  if (known === undefined) return { kind: "unknown", meterState: meterState(context) };
  if (known.state === "expired") return regrant(context, known, ttlMs);
  if (known.state !== "active") return done(context, known, known.state);
  const lease = { ...known, expireMs: Math.max(known.expireMs, nowMs + ttlMs) };
  state.running.set(operationId, lease);
  return done(context, lease, "active");
}

function settle(context: CommandContext, { operationId, points }: { operationId: string; points: number }): Reply {
  const { state, nowMs, remember } = context;
  const known = find(state, operationId);
  if (known === undefined) return { kind: "unknown", meterState: meterState(context) };
  if (known.state === "settled" && known.settledPoints !== points) {
    return { kind: "conflict", meterState: meterState(context), lease: known };
  }
  if (known.state === "settled") return done(context, known, "settled");
  const lease: Lease = { ...known, state: "settled", settledPoints: points, holder: "" };
  addEnded(state, lease, nowMs + remember.ms);
  charge(state, lease);
  return done(context, { ...lease, holder: known.holder }, known.state);
}

function release(context: CommandContext, operationId: string): Reply {
  const known = find(context.state, operationId);
  if (known === undefined) return { kind: "unknown", meterState: meterState(context) };
  if (known.state === "released" || known.state === "settled") return done(context, known, known.state);
  const lease: Lease = { ...known, state: "released", holder: "" };
  addEnded(context.state, lease, context.nowMs + context.remember.ms);
  return done(context, { ...lease, holder: known.holder }, known.state);
}

function list(context: CommandContext): Reply {
  const leases = [...context.state.running.values()].toSorted((left, right) => left.expireMs - right.expireMs);
  return { kind: "leases", meterState: meterState(context), leases };
}

/** Takes an expired lease again, if there is room. */
function regrant(context: CommandContext, known: Lease, ttlMs: number): Reply {
  const violated = violations(context, known.day, known.points, false);
  if (violated !== undefined) return { kind: "refused", meterState: meterState(context), violated, lease: known };
  const lease: Lease = { ...known, state: "active", expireMs: context.nowMs + ttlMs };
  addRunning(context.state, lease);
  return done(context, lease, "expired");
}

function restore({ state, nowMs, remember }: CommandContext, lease: Lease): void {
  if (find(state, lease.operationId) !== undefined) return;
  if (lease.state === "active" && lease.expireMs > nowMs) return addRunning(state, lease);
  addEnded(state, lease.state === "active" ? { ...lease, state: "expired" } : lease, nowMs + remember.ms);
}

/** Lists the limits that a lease of that day would violate. Empty without a quota. Undefined if the lease fits. */
function violations(
  { state, limits }: CommandContext,
  day: number,
  points: number,
  isNew: boolean,
): LimitName[] | undefined {
  if (limits === undefined) return [];
  const found: LimitName[] = [];
  const over = (name: LimitName, value: number) => {
    const most = limits[name];
    if (most !== undefined && (value > most || most === 0)) found.push(name);
  };
  if (isNew) over("pointsPerRequest", points);
  if (day === state.day) over("pointsPerDay", state.dayUsed + state.dayReserved + points);
  if (isInWindow(state, day)) over("pointsPerDateWindow", state.windowUsed + state.windowReserved + points);
  over("maxConcurrentExecution", state.running.size + 1);
  return found.length === 0 ? undefined : found;
}

function find(state: State, operationId: string): Lease | undefined {
  return state.running.get(operationId) ?? state.ended.get(operationId)?.lease;
}

function addRunning(state: State, lease: Lease): void {
  state.ended.delete(lease.operationId);
  state.running.set(lease.operationId, lease);
  state.nextExpireMs = Math.min(state.nextExpireMs, lease.expireMs);
  reserve(state, lease, 1);
}

/** Callers pass leases in the order of `forgetMs`. */
function addEnded(state: State, lease: Lease, forgetMs: number): void {
  if (state.running.delete(lease.operationId)) reserve(state, lease, -1);
  // set() keeps the position of an existing key, so it is deleted first.
  state.ended.delete(lease.operationId);
  state.ended.set(lease.operationId, { lease, forgetMs });
}

function reserve(state: State, { day, points }: Lease, sign: 1 | -1): void {
  if (day === state.day) state.dayReserved += sign * points;
  if (isInWindow(state, day)) state.windowReserved += sign * points;
}

function charge(state: State, { day, settledPoints = 0 }: Lease): void {
  if (day === state.day) state.dayUsed += settledPoints;
  if (isInWindow(state, day)) state.windowUsed += settledPoints;
}

function isInWindow({ from, to }: State, day: number): boolean {
  return from <= day && day < to;
}

function done(context: CommandContext, lease: Lease | undefined, before: Lease["state"] | undefined): Reply {
  return { kind: "done", meterState: meterState(context), lease, before };
}

function meterState({ state, rules, nowMs, limits }: CommandContext): MeterState {
  const { from, to, running } = state;
  return {
    nowMs,
    day: state.day,
    dayEndMs: dayEnd(state, rules),
    window: { from, to },
    windowEndMs: to * dayMs - Math.min(state.offset, rules.timezone) * hourMs,
    dayUsed: state.dayUsed,
    windowUsed: state.windowUsed,
    dayReserved: state.dayReserved,
    windowReserved: state.windowReserved,
    running: running.size,
    limits,
  };
}

function toState({ day, timezone, window, dayUsed, windowUsed, leases }: Snapshot, remember: Remembered): State {
  const state: State = {
    offset: timezone,
    day,
    dayUsed,
    dayReserved: 0,
    ...window,
    windowUsed,
    windowReserved: 0,
    running: new Map(),
    ended: new Map(),
    nextExpireMs: Number.POSITIVE_INFINITY,
  };
  const latest = new Map(leases.map((lease) => [lease.operationId, lease]));
  for (const lease of [...latest.values()].toSorted((left, right) => endOf(left) - endOf(right))) {
    if (lease.state === "active") addRunning(state, lease);
    else addEnded(state, lease, endOf(lease) + remember.ms);
  }
  return state;
}

function endOf({ endedMs, expireMs }: Lease): number {
  return endedMs ?? expireMs;
}

function setWindow(state: State, { window, windowUsed, leases }: Snapshot): void {
  Object.assign(state, window, { windowUsed, windowReserved: 0 });
  for (const { day, points } of state.running.values()) if (isInWindow(state, day)) state.windowReserved += points;
  // Settlements that the ledger does not have yet: see prime.lua.
  const latest = new Map(leases.map((lease) => [lease.operationId, lease]));
  for (const inLedger of latest.values()) {
    const known = inLedger.state === "settled" ? undefined : state.ended.get(inLedger.operationId)?.lease;
    if (known?.state !== "settled" || known.grantedMs < inLedger.grantedMs || !isInWindow(state, known.day)) continue;
    state.windowUsed += known.settledPoints ?? 0;
  }
}
