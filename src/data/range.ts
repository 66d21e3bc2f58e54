import { outOfRange } from "../shared/errors.ts";

/** A range of bytes in a file; `to` is exclusive. */
export interface ByteRange {
  readonly from: number;
  readonly to: number;
}

/**
 * Reads the Range header (RFC 9110, 14.2).
 * @param condition the If-Range header: the range applies only if the file has this ETag
 * @returns undefined for the whole file: the header is absent, invalid, or lists several ranges, which a server may ignore
 * @throws OUT_OF_RANGE when the file has none of these bytes
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
