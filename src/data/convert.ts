import pLimit from "p-limit";
import { invalid, unavailable } from "../shared/errors.ts";
import { xlsxType } from "../xlsx/workbook.ts";
import { type ConversionLimits, convertInChild } from "./convert/child-process.ts";
import type { ConversionKind } from "./convert/convert-bytes.ts";
import { ConversionError } from "./convert/layout.ts";

/** A stored file and a way to read its bytes. */
export interface StoredFile {
  readonly content_type: string;
  readonly filename: string;
  readonly bytes: number;
  readonly read: () => AsyncIterable<Buffer>;
}

export interface Converted {
  readonly bytes: Buffer;
  /** Frees the bytes in the limit of all results. Call it when the result is sent; a second call does nothing. */
  readonly release: () => void;
}

export const contentTypes = { json: "application/json", xlsx: xlsxType } as const;

const maxInputBytes = 4_194_304;
/** The size of the result needs its own limit: the heap limit of the child does not bound it. */
const limits: ConversionLimits = { memoryMb: 512, timeMs: 30_000, maxBytes: 67_108_864 };

/** Bytes of all results that are being sent: slow readers must not fill the memory. */
const maxHeldBytes = 4 * limits.maxBytes;
let heldBytes = 0;

/** One conversion at a time bounds the memory that conversions take. */
const conversionQueue = pLimit(1);
/** A caller that would wait longer gets an error that says when to retry, instead of silence. */
const maxWaitMs = 10_000;

/** @throws INVALID_ARGUMENT for a file that is neither JSON nor XLSX */
export function kindOf({
  content_type: type,
  filename,
}: Pick<StoredFile, "content_type" | "filename">): ConversionKind {
  const [essence = ""] = type.toLowerCase().split(/[; ]/, 1);
  if (essence === xlsxType || /\.xlsx$/i.test(filename)) return "xlsx";
  if (essence === contentTypes.json || essence.endsWith("+json") || /\.json$/i.test(filename)) return "json";
  throw notConvertible(`${type} is neither JSON nor XLSX`);
}

/**
 * Converts JSON to a workbook, or a workbook to JSON. Conversions wait in a queue, for `waitMs` at most.
 * @throws INVALID_ARGUMENT with the reason when the file cannot be converted; UNAVAILABLE when the conversion does not begin
 * in time, or results that are being sent take too much memory; the signal's reason when it is aborted, in the queue too
 */
export async function convert(file: StoredFile, signal: AbortSignal, waitMs = maxWaitMs): Promise<Converted> {
  const from = kindOf(file);
  if (file.bytes > maxInputBytes) {
    throw notConvertible(`its size must be at most ${maxInputBytes} bytes, and is ${file.bytes}`);
  }
  signal.throwIfAborted();
  return new Promise((resolve, reject) => {
    const onAbort = () => reject(signal.reason as Error);
    signal.addEventListener("abort", onAbort, { once: true });
    const late = unavailable("TOO_BUSY", "other conversions take too long", 5000);
    let isLate = false;
    const timer = setTimeout(() => {
      isLate = true;
      reject(late);
    }, waitMs);
    const begin = async () => {
      if (isLate) throw late;
      clearTimeout(timer);
      return convertNow(file, from, signal);
    };
    conversionQueue(begin)
      .finally(() => signal.removeEventListener("abort", onAbort))
      .then(resolve, (error: unknown) =>
        reject(error instanceof ConversionError ? notConvertible(error.message) : error),
      );
  });
}

async function convertNow(file: StoredFile, from: ConversionKind, signal: AbortSignal): Promise<Converted> {
  signal.throwIfAborted();
  if (heldBytes + limits.maxBytes > maxHeldBytes)
    throw unavailable("TOO_BUSY", "too much converted data is still being read", 5000);
  const bytes = await convertInChild(file.read(), from, signal, limits);
  signal.throwIfAborted();
  heldBytes += bytes.length;
  let isHeld = true;
  const release = () => {
    if (isHeld) heldBytes -= bytes.length;
    isHeld = false;
  };
  // A caller that has disconnected may never resume the generator that calls release.
  signal.addEventListener("abort", release, { once: true });
  return { bytes, release };
}

/** The conversions at this moment. */
export interface ConversionUse {
  /** Conversions that wait for their turn. */
  readonly waiting: number;
  /** Bytes of results that are being sent. */
  readonly heldBytes: number;
}

/** Returns the present use of conversions in this process. */
export function conversionUse(): ConversionUse {
  return { waiting: conversionQueue.pendingCount, heldBytes };
}

function notConvertible(reason: string) {
  return invalid({ field: "data_flow_convert", message: `the data cannot be converted: ${reason}` });
}
