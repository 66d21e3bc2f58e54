import { unavailable } from "../shared/errors.ts";
import type { Database } from "./database.ts";

export interface BulkSlotOptions {
  readonly kind: "readers" | "uploads";
  readonly signal: AbortSignal;
  readonly waitMs?: number;
}

/** Who holds connections for long, and which part of them: the slow of one kind do not keep the other waiting. */
const kinds = {
  readers: { part: 1 / 2, busy: "too many long lists are being read" },
  uploads: { part: 1 / 4, busy: "too many uploads are under way" },
};
/** When a turn may have come free. */
const retryAfterMs = 5000;

interface Turns {
  free: number;
  /** In the order in which they came. */
  readonly waiting: Set<() => void>;
}

const turns = { readers: new WeakMap<Database, Turns>(), uploads: new WeakMap<Database, Turns>() };

/**
 * Waits for a turn to hold a connection for long: slow callers leave the others to everybody else.
 * @returns what gives the turn back; to be called once
 * @throws UNAVAILABLE when none comes free in time; the signal's reason once it is aborted
 */
export async function acquireBulkSlot(
  database: Database,
  { kind, signal, waitMs = 10_000 }: BulkSlotOptions,
): Promise<() => void> {
  signal.throwIfAborted();
  const mine = turnsOf(database, kind);
  if (mine.free > 0) mine.free -= 1;
  else await untilNext(mine, { kind, signal, waitMs });
  return () => {
    const [next] = mine.waiting;
    if (next === undefined) mine.free += 1;
    else next();
  };
}

function turnsOf(database: Database, kind: BulkSlotOptions["kind"]): Turns {
  const known = turns[kind].get(database);
  if (known !== undefined) return known;
  const { max } = database.client.pool as { max: number };
  const made = { free: Math.max(1, Math.floor(max * kinds[kind].part)), waiting: new Set<() => void>() };
  turns[kind].set(database, made);
  return made;
}

/** Who waits no more is forgotten at once: those who hold the turns may do so for long. */
function untilNext({ waiting }: Turns, { kind, signal, waitMs }: Required<BulkSlotOptions>): Promise<void> {
  return new Promise((resolve, reject) => {
    const settle = (outcome: () => void) => {
      waiting.delete(come);
      clearTimeout(timer);
      signal.removeEventListener("abort", leave);
      outcome();
    };
    const come = () => settle(resolve);
    const leave = () => settle(() => reject(signal.reason as Error));
    const timer = setTimeout(
      () => settle(() => reject(unavailable("TOO_BUSY", kinds[kind].busy, retryAfterMs))),
      waitMs,
    );
    waiting.add(come);
    signal.addEventListener("abort", leave, { once: true });
  });
}
