import type {
  Command,
  CounterRequest,
  Lease,
  LeaseState,
  LimitName,
  Meter,
  MeterState,
  Reply,
  Rules,
} from "./engine.ts";

/** Requests to one meter under the same rules. */
export interface MeterGroup {
  readonly meter: Meter;
  readonly rules: Rules;
  /** The texts that meter.lua reads. */
  readonly commands: string[];
  /** The place of each command among all requests. */
  readonly indexes: number[];
}

/** The most commands of one call of meter.lua, so that no call blocks Redis for long. */
export const maxCommands = 100;

/** Groups requests by meter. Those of one meter keep their order, because calls run in the order of the groups. */
export function groupByMeter(requests: readonly CounterRequest[]): MeterGroup[] {
  const groups: MeterGroup[] = [];
  /** The last group of each meter. */
  const latest = new Map<string, MeterGroup>();
  for (const [index, { meter, rules, command }] of requests.entries()) {
    const key = `${meter.userId} ${meter.service} ${meter.methodGroup}`;
    let group = latest.get(key);
    if (group === undefined || group.commands.length === maxCommands || !areEqual(group.rules, rules)) {
      group = { meter, rules, commands: [], indexes: [] };
      latest.set(key, group);
      groups.push(group);
    }
    group.commands.push(packCommand(command));
    group.indexes.push(index);
  }
  return groups;
}

function areEqual(rules: Rules, others: Rules): boolean {
  const { timezone, quotas } = rules;
  return (
    timezone === others.timezone &&
    (quotas === others.quotas ||
      (quotas.length === others.quotas.length && quotas.every((quota, index) => quota === others.quotas[index])))
  );
}

/** A command, or the restoration of a lease whose record is the holder. */
type MeterCommand = Command | { readonly kind: "restore"; readonly operationId: string; readonly holder: string };

/** Returns a command as the text that meter.lua reads. */
export function packCommand(command: MeterCommand): string {
  const operation = "operationId" in command ? command.operationId : "-";
  const points = "points" in command ? command.points : 0;
  const ttlMs = "ttlMs" in command ? command.ttlMs : 0;
  const holder = "holder" in command ? command.holder : "";
  return `${command.kind} ${operation} ${points} ${ttlMs} ${holder}`;
}

/** The texts of quotas, which are the same for all decisions until the quotas change. */
const packedQuotas = new WeakMap<Rules["quotas"], string>();

/** Returns quotas as the text that meter.lua reads. */
export function packQuotas(quotas: Rules["quotas"]): string {
  const known = packedQuotas.get(quotas);
  if (known !== undefined) return known;
  const packed = quotas
    .map(({ period, pointsPerRequest, pointsPerDay, pointsPerDateWindow, maxConcurrentExecution }) =>
      [period?.from, period?.to, pointsPerRequest, pointsPerDay, pointsPerDateWindow, maxConcurrentExecution]
        .map((value) => value ?? "-")
        .join(" "),
    )
    .map((quota) => `${quota};`)
    .join("");
  packedQuotas.set(quotas, packed);
  return packed;
}

const stateLetters: Readonly<Record<string, LeaseState>> = { a: "active", e: "expired", r: "released", s: "settled" };

/** Returns a function that reads the reply to a command of a call, by its place. */
export function createReplyReader(
  [first = "", ...texts]: readonly string[],
  { quotas }: Rules,
): (place: number) => Reply {
  const [outcome, ...head] = first.split(" ");
  if (outcome === "stale") return () => ({ kind: "stale", generation: Number(head[0]) });
  if (outcome === "missing") {
    const [token = "", nowMs, day, from, to] = head;
    const window = { from: Number(from), to: Number(to) };
    return () => ({ kind: "missing", token, nowMs: Number(nowMs), day: Number(day), window });
  }
  const [nowMs = 0, day = 0, dayEndMs = 0, from = 0, to = 0, windowEndMs = 0, quota = 0] = head.map(Number);
  const window = { from, to };
  const limits = quotas[quota - 1];

  return (place) => {
    const fields = (texts[place] ?? "").split(" ");
    const [kind, dayUsed, windowUsed, dayReserved, windowReserved, running, before, violated] = fields;
    const meterState: MeterState = {
      nowMs,
      day,
      dayEndMs,
      window,
      windowEndMs,
      dayUsed: Number(dayUsed),
      windowUsed: Number(windowUsed),
      dayReserved: Number(dayReserved),
      windowReserved: Number(windowReserved),
      running: Number(running),
      limits,
    };
    if (kind === "leases") {
      const text = fields.slice(leaseStart).join(" ");
      const leases = text === "" ? [] : text.split("\n").map((line) => unpackLease(line.split(" "), 0));
      return { kind, meterState, leases };
    }
    const lease = fields[leaseStart] === "" ? undefined : unpackLease(fields, leaseStart);
    switch (kind) {
      case "done":
        return { kind, meterState, lease, before: stateLetters[before as string] };
      case "refused":
        return { kind, meterState, lease, violated: violated === "-" ? [] : (violated?.split(",") as LimitName[]) };
      case "conflict":
        return { kind, meterState, lease: lease as Lease };
      default:
        return { kind: "unknown", meterState };
    }
  };
}

/** The place of the lease in a reply to a command. */
const leaseStart = 8;

/** Returns a lease as a record of meter.lua. */
export function packLease({ state, day, timezone, points, grantedMs, expireMs, settledPoints, holder }: Lease): string {
  return `${state[0]} ${day} ${timezone} ${points} ${grantedMs} ${expireMs} ${settledPoints ?? "-"} ${state === "active" || state === "expired" ? holder : ""}`;
}

/** Reads a lease from the fields at a place and after it. */
function unpackLease(fields: readonly string[], start: number): Lease {
  const settled = fields[start + 7];
  return {
    operationId: fields[start] as string,
    state: stateLetters[fields[start + 1] as string] as LeaseState,
    day: Number(fields[start + 2]),
    timezone: Number(fields[start + 3]),
    points: Number(fields[start + 4]),
    grantedMs: Number(fields[start + 5]),
    expireMs: Number(fields[start + 6]),
    settledPoints: settled === "-" ? undefined : Number(settled),
    holder: fields.slice(start + 8).join(" "),
  };
}
