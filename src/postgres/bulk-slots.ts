import { unavailable } from "../shared/errors.ts";
import type { Database } from "./database.ts";

export interface BulkSlotOptions {
  readonly kind: "readers" | "uploads";
  readonly signal: AbortSignal;
  readonly waitMs?: number;
}

/** The share of the pool for each kind. Separate shares: slow callers of one kind must not block the other. */
const kinds = {
  readers: { share: 1 / 2, busy: "too many long lists are being read" },
  uploads: { share: 1 / 4, busy: "too many uploads are in progress" },
};
const retryAfterMs = 5000;

interface Slots {
  free: number;
  /** Callers that wait, in the order of arrival. */
  readonly waiting: Set<() => void>;
}

const slotsByKind = { readers: new WeakMap<Database, Slots>(), uploads: new WeakMap<Database, Slots>() };

/**
 * Waits for a slot, which permits a long hold on a connection. Slots cover a part of the pool, so that slow callers leave
 * connections to short calls. Slots are granted in the order of arrival.
 * @returns a function that releases the slot; call it once
 * @throws UNAVAILABLE when no slot is free in time; the signal's reason once it is aborted
 */
export async function acquireBulkSlot(
  database: Database,
  { kind, signal, waitMs = 10_000 }: BulkSlotOptions,
): Promise<() => void> {
  signal.throwIfAborted();
  const slots = slotsOf(database, kind);
  if (slots.free > 0) slots.free -= 1;
  else await waitForSlot(slots, { kind, signal, waitMs });
  return () => {
    const [grantNext] = slots.waiting;
    if (grantNext === undefined) slots.free += 1;
    else grantNext();
  };
}

function slotsOf(database: Database, kind: BulkSlotOptions["kind"]): Slots {
  const existing = slotsByKind[kind].get(database);
  if (existing !== undefined) return existing;
  const { max } = database.client.pool as { max: number };
  const slots = { free: Math.max(1, Math.floor(max * kinds[kind].share)), waiting: new Set<() => void>() };
  slotsByKind[kind].set(database, slots);
  return slots;
}

/** A caller that stops waiting leaves the queue at once: slots may be held for long. */
function waitForSlot({ waiting }: Slots, { kind, signal, waitMs }: Required<BulkSlotOptions>): Promise<void> {
  return new Promise((resolve, reject) => {
    const settle = (outcome: () => void) => {
      waiting.delete(grant);
      clearTimeout(timer);
      signal.removeEventListener("abort", onAbort);
      outcome();
    };
    const grant = () => settle(resolve);
    const onAbort = () => settle(() => reject(signal.reason as Error));
    const timer = setTimeout(
      () => settle(() => reject(unavailable("TOO_BUSY", kinds[kind].busy, retryAfterMs))),
      waitMs,
    );
    waiting.add(grant);
    signal.addEventListener("abort", onAbort, { once: true });
  });
}
