import pLimit from "p-limit";
import { invalid, unavailable } from "../shared/errors.ts";
import { xlsxType } from "../xlsx/workbook.ts";
import { type ConversionLimits, makeApart } from "./convert/apart.ts";
import type { ConversionKind } from "./convert/make.ts";
import { ConversionError } from "./convert/table.ts";

/** Data as it was stored. */
export interface Stored {
  readonly content_type: string;
  readonly filename: string;
  readonly bytes: number;
  readonly read: () => AsyncIterable<Buffer>;
}

export interface Converted {
  readonly bytes: Buffer;
  /** To be called when nobody reads it any more. */
  readonly release: () => void;
}

export const contentTypes = { json: "application/json", xlsx: xlsxType } as const;

/** Of what is converted. What comes of it is not under the limit of the heap: it has one of its own. */
const maxBytes = 4_194_304;
const limits: ConversionLimits = { memoryMb: 512, timeMs: 30_000, maxBytes: 67_108_864 };

/** Who reads slowly keeps what was made: of all of them together that is not without end. */
const maxHeld = 4 * limits.maxBytes;
let held = 0;

/** One at a time: the memory that one takes is not taken many times over. */
const inTurn = pLimit(1);

/** @throws INVALID_ARGUMENT for data that is never converted */
export function kindOf({ content_type: type, filename }: Pick<Stored, "content_type" | "filename">): ConversionKind {
  const [essence = ""] = type.toLowerCase().split(/[; ]/, 1);
  if (essence === xlsxType || /\.xlsx$/i.test(filename)) return "xlsx";
  if (essence === contentTypes.json || essence.endsWith("+json") || /\.json$/i.test(filename)) return "json";
  throw impossible(`${type} is neither JSON nor XLSX`);
}

/**
 * JSON as a workbook, or a workbook as JSON.
 * @throws INVALID_ARGUMENT that says why it cannot be; the signal's reason when it is aborted, in the queue too
 */
export async function convert(stored: Stored, signal: AbortSignal): Promise<Converted> {
  const from = kindOf(stored);
  if (stored.bytes > maxBytes) throw impossible(`${stored.bytes} bytes are more than ${maxBytes}`);
  signal.throwIfAborted();
  return new Promise((resolve, reject) => {
    const leave = () => reject(signal.reason as Error);
    signal.addEventListener("abort", leave, { once: true });
    const turn = inTurn(() => hold(stored, from, signal)).finally(() => signal.removeEventListener("abort", leave));
    turn.then(resolve, (error: unknown) =>
      reject(error instanceof ConversionError ? impossible(error.message) : error),
    );
  });
}

async function hold(stored: Stored, from: ConversionKind, signal: AbortSignal): Promise<Converted> {
  signal.throwIfAborted();
  if (held + limits.maxBytes > maxHeld)
    throw unavailable("TOO_BUSY", "too much converted data is still being read", 5000);
  const chunks: Buffer[] = [];
  for await (const chunk of stored.read()) chunks.push(chunk);
  const bytes = await makeApart(Buffer.concat(chunks), from, signal, limits);
  signal.throwIfAborted();
  held += bytes.length;
  let isHeld = true;
  const release = () => {
    if (isHeld) held -= bytes.length;
    isHeld = false;
  };
  // A reader that is gone may never come back to say so.
  signal.addEventListener("abort", release, { once: true });
  return { bytes, release };
}

function impossible(reason: string) {
  return invalid({ field: "data_flow_convert", message: `the data cannot be converted: ${reason}` });
}
