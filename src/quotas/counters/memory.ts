import { LRUCache } from "lru-cache";
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
import { dayAt, dayMs, hourMs, windowAt } from "./window.ts";

export interface MemoryEngineOptions {
  /** Milliseconds since the epoch. */
  readonly now: () => number;
  readonly remember: Remembered;
}

/** An idle meter that is dropped loses nothing: it is primed again. */
const maxMeters = 20_000;

/** Counters in this process, for one node: the twin of meter.lua. */
export function createMemoryEngine({ now, remember }: MemoryEngineOptions): CounterEngine {
  /** What the prime of a meter must present; void when the meter is lost. */
  const tokens = new LRUCache<string, string>({ max: maxMeters });
  const meters = new LRUCache<string, State>({ max: maxMeters, dispose: (_state, key) => void tokens.delete(key) });
  let tokenCount = 0;

  function tokenOf(key: string): string {
    const token = tokens.get(key) ?? String((tokenCount += 1));
    tokens.set(key, token);
    return token;
  }

  function look(key: string, rules: Rules): Turn | Missing {
    const turn = take(meters.get(key), rules, now(), remember);
    return "state" in turn ? turn : { kind: "missing", token: tokenOf(key), nowMs: now(), ...turn };
  }

  return {
    run: async (asks) =>
      asks.map(({ meter, rules, command }) => {
        const key = keysOf(meter, "")[0];
        const turn = look(key, rules);
        if ("kind" in turn) return turn;
        switch (command.kind) {
          case "acquire":
            return acquire(turn, command);
          case "check":
            return check(turn, command.points);
          case "renew":
            return renew(turn, command);
          case "settle":
            tokens.delete(key);
            return settle(turn, command);
          case "release":
            return release(turn, command.operationId);
          case "usage":
            return done(turn, undefined, undefined);
          case "leases":
            return list(turn);
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
      const turn = look(keysOf(meter, "")[0], rules);
      if (!("kind" in turn)) restore(turn, lease);
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

interface Kept {
  lease: Lease;
  forgetMs: number;
}

interface State {
  /** In hours; where the day is counted. */
  offset: number;
  day: number;
  dayUsed: number;
  dayReserved: number;
  from: number;
  to: number;
  windowUsed: number;
  windowReserved: number;
  /** By operation. */
  running: Map<string, Lease>;
  /** In the order in which they are forgotten. */
  ended: Map<string, Kept>;
  /** No running lease expires before. */
  nextExpireMs: number;
}

/** A command's look at a meter, at one moment. */
interface Turn {
  readonly state: State;
  readonly rules: Rules;
  readonly nowMs: number;
  readonly remember: Remembered;
  readonly limits: Rules["quotas"][number] | undefined;
}

/** Brings a meter to the present, or says of which day and window the ledger must tell first. */
function take(
  state: State | undefined,
  rules: Rules,
  nowMs: number,
  remember: Remembered,
): Turn | Pick<Missing, "day" | "window"> {
  const { timezone } = rules;
  if (state === undefined) {
    const day = dayAt(nowMs, timezone);
    return { day, window: windowAt(day, rules.quotas).window };
  }
  sweep(state, nowMs, remember);
  // A day ends at the later of the midnights at its own offset and at the user's present one: none is granted twice.
  if (nowMs >= dayEnd(state, rules)) {
    state.day = dayAt(nowMs, timezone);
    state.offset = timezone;
    state.dayUsed = 0;
    state.dayReserved = 0;
  }
  const { window, limits } = windowAt(state.day, rules.quotas);
  if (window.from !== state.from || window.to !== state.to) {
    // What the ledger alone knows, unless the window has only just begun.
    if (window.from !== state.day) return { day: state.day, window };
    Object.assign(state, window, { windowUsed: state.dayUsed, windowReserved: state.dayReserved });
  }
  return { state, rules, nowMs, remember, limits };
}

function sweep(state: State, nowMs: number, remember: Remembered): void {
  if (nowMs >= state.nextExpireMs) {
    const late = [...state.running.values()].filter(({ expireMs }) => expireMs <= nowMs);
    for (const lease of late.toSorted((one, other) => one.expireMs - other.expireMs)) {
      end(state, { ...lease, state: "expired" }, lease.expireMs + remember.ms);
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

function acquire(turn: Turn, { operationId, points, ttlMs, holder }: Acquisition): Reply {
  const { state, nowMs } = turn;
  const known = find(state, operationId);
  if (known?.state === "active" && known.points === points) return done(turn, known, known.state);
  if (known?.state === "active" || known?.state === "settled") {
    return { kind: "conflict", meterState: meterState(turn), lease: known };
  }
  const violated = violations(turn, state.day, points, true);
  if (violated !== undefined) return { kind: "refused", meterState: meterState(turn), violated, lease: undefined };
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
  start(state, lease);
  return done(turn, lease, known?.state);
}

function check(turn: Turn, points: number): Reply {
  const violated = violations(turn, turn.state.day, points, true);
  if (violated === undefined) return done(turn, undefined, undefined);
  return { kind: "refused", meterState: meterState(turn), violated, lease: undefined };
}

function renew(turn: Turn, { operationId, ttlMs }: { operationId: string; ttlMs: number }): Reply {
  const { state, nowMs } = turn;
  const known = find(state, operationId);
  if (known === undefined) return { kind: "unknown", meterState: meterState(turn) };
  if (known.state === "expired") return takeAgain(turn, known, ttlMs);
  if (known.state !== "active") return done(turn, known, known.state);
  const lease = { ...known, expireMs: Math.max(known.expireMs, nowMs + ttlMs) };
  state.running.set(operationId, lease);
  return done(turn, lease, "active");
}

function settle(turn: Turn, { operationId, points }: { operationId: string; points: number }): Reply {
  const { state, nowMs, remember } = turn;
  const known = find(state, operationId);
  if (known === undefined) return { kind: "unknown", meterState: meterState(turn) };
  if (known.state === "settled" && known.settledPoints !== points) {
    return { kind: "conflict", meterState: meterState(turn), lease: known };
  }
  if (known.state === "settled") return done(turn, known, "settled");
  const lease: Lease = { ...known, state: "settled", settledPoints: points, holder: "" };
  end(state, lease, nowMs + remember.ms);
  charge(state, lease);
  return done(turn, { ...lease, holder: known.holder }, known.state);
}

function release(turn: Turn, operationId: string): Reply {
  const known = find(turn.state, operationId);
  if (known === undefined) return { kind: "unknown", meterState: meterState(turn) };
  if (known.state === "released" || known.state === "settled") return done(turn, known, known.state);
  const lease: Lease = { ...known, state: "released", holder: "" };
  end(turn.state, lease, turn.nowMs + turn.remember.ms);
  return done(turn, { ...lease, holder: known.holder }, known.state);
}

function list(turn: Turn): Reply {
  const leases = [...turn.state.running.values()].toSorted((one, other) => one.expireMs - other.expireMs);
  return { kind: "leases", meterState: meterState(turn), leases };
}

/** Takes an expired lease again, if there is room. */
function takeAgain(turn: Turn, known: Lease, ttlMs: number): Reply {
  const violated = violations(turn, known.day, known.points, false);
  if (violated !== undefined) return { kind: "refused", meterState: meterState(turn), violated, lease: known };
  const lease: Lease = { ...known, state: "active", expireMs: turn.nowMs + ttlMs };
  start(turn.state, lease);
  return done(turn, lease, "expired");
}

function restore({ state, nowMs, remember }: Turn, lease: Lease): void {
  if (find(state, lease.operationId) !== undefined) return;
  if (lease.state === "active" && lease.expireMs > nowMs) return start(state, lease);
  end(state, lease.state === "active" ? { ...lease, state: "expired" } : lease, nowMs + remember.ms);
}

/** What stands in the way of a lease of that day; undefined for nothing. */
function violations({ state, limits }: Turn, day: number, points: number, isNew: boolean): LimitName[] | undefined {
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

function start(state: State, lease: Lease): void {
  state.ended.delete(lease.operationId);
  state.running.set(lease.operationId, lease);
  state.nextExpireMs = Math.min(state.nextExpireMs, lease.expireMs);
  reserve(state, lease, 1);
}

/** Calls come in the order of `forgetMs`. */
function end(state: State, lease: Lease, forgetMs: number): void {
  if (state.running.delete(lease.operationId)) reserve(state, lease, -1);
  // A Map keeps the place of a key that it has.
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

function done(turn: Turn, lease: Lease | undefined, before: Lease["state"] | undefined): Reply {
  return { kind: "done", meterState: meterState(turn), lease, before };
}

function meterState({ state, rules, nowMs, limits }: Turn): MeterState {
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
  for (const lease of [...latest.values()].toSorted((one, other) => endOf(one) - endOf(other))) {
    if (lease.state === "active") start(state, lease);
    else end(state, lease, endOf(lease) + remember.ms);
  }
  return state;
}

function endOf({ endedMs, expireMs }: Lease): number {
  return endedMs ?? expireMs;
}

function setWindow(state: State, { window, windowUsed }: Snapshot): void {
  Object.assign(state, window, { windowUsed, windowReserved: 0 });
  for (const { day, points } of state.running.values()) if (isInWindow(state, day)) state.windowReserved += points;
}
