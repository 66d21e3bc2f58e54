import { outOfRange } from "../shared/errors.ts";

/** A part of a file, `to` excluded. */
export interface ByteRange {
  readonly from: number;
  readonly to: number;
}

/**
 * The part that a Range header asks for (RFC 9110, 14.2); undefined for all: where there is no header, one that is not
 * understood, or one of many parts, which a server may pass over.
 * @param condition If-Range: the part is wanted of the file with that ETag alone
 * @throws OUT_OF_RANGE where the file has no such bytes
 */
export function parseByteRange(header: string | null, condition: string | null, file: { bytes: number; etag: string }) {
  const match = /^bytes=(\d{0,15})-(\d{0,15})$/.exec(header ?? "");
  if (match === null || (condition !== null && condition !== file.etag)) return undefined;
  const [first = "", last = ""] = match.slice(1);
  if (first === "" && last === "") return undefined;
  const from = first === "" ? Math.max(0, file.bytes - Number(last)) : Number(first);
  const to = first === "" || last === "" ? file.bytes : Math.min(Number(last) + 1, file.bytes);
  if (first !== "" && last !== "" && Number(last) < Number(first)) return undefined;
  if (from >= to) throw outOfRange(file.bytes);
  return { from, to } satisfies ByteRange;
}
