import { promisify } from "node:util";
import { gunzip } from "node:zlib";
import { badField, HttpError } from "./errors.ts";
import type { GatewayRequest } from "./exchange.ts";

const gunzipBytes = promisify(gunzip);

/** Returns the content coding of a body. @throws 415 with Accept-Encoding when it is not accepted (RFC 9110, 12.5.3) */
export function codingOf({ headers }: GatewayRequest, accepted: readonly Coding[]): Coding {
  const name = (headers["content-encoding"] ?? "").trim().toLowerCase();
  const coding = name === "" ? "identity" : name === "x-gzip" ? "gzip" : name;
  const known = accepted.find((each) => each === coding);
  if (known !== undefined) return known;
  throw new HttpError("UNSUPPORTED_MEDIA_TYPE", `the content encoding must be ${accepted.join(" or ")}`, {
    "accept-encoding": accepted.join(", "),
  });
}

export type Coding = "identity" | "gzip";

/**
 * Checks that the content type is JSON in UTF-8. PATCH also accepts application/merge-patch+json (RFC 7396). Parameters
 * that JSON does not define are ignored (RFC 8259, 11).
 * @throws 415 with Accept
 */
export function checkJsonType({ method, headers }: GatewayRequest): void {
  // The patterns below take quadratic time at worst, so the text is cut.
  const match = mediaType.exec((headers["content-type"] ?? "").slice(0, 256));
  const charset = parameter.exec(match?.[2] ?? "")?.[1]?.toLowerCase() ?? "utf-8";
  const type = match?.[1]?.toLowerCase();
  const isJson = type === "application/json" || (method === "PATCH" && type === "application/merge-patch+json");
  if (isJson && charsets.has(charset)) return;
  throw new HttpError("UNSUPPORTED_MEDIA_TYPE", "the body must be application/json in UTF-8", {
    accept: "application/json",
  });
}

/** `type "/" subtype *( OWS ";" OWS [ token "=" ( token / quoted-string ) ] )` (RFC 9110, 8.3.1). */
const mediaType =
  /^[ \t]*([\w!#$%&'*+.^`|~-]+\/[\w!#$%&'*+.^`|~-]+)((?:[ \t]*;(?:[ \t]*[\w!#$%&'*+.^`|~-]+=(?:[\w!#$%&'*+.^`|~-]+|"(?:[^"\\]|\\.)*"))?)*)[ \t]*$/;
const parameter = /;[ \t]*charset="?([^";]*?)"?[ \t]*(?:;|$)/i;
/** US-ASCII is a subset of UTF-8. */
const charsets: ReadonlySet<string> = new Set(["utf-8", "utf8", "us-ascii"]);

/**
 * Decompresses a gzip body. The output is bounded during decompression: a small body can expand to any length.
 * @throws INVALID_ARGUMENT when the bytes are not valid gzip; 413 beyond maxBytes
 */
export async function decompress(bytes: Buffer, maxBytes: number): Promise<Buffer> {
  try {
    return await gunzipBytes(bytes, { maxOutputLength: Math.max(1, maxBytes) });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ERR_BUFFER_TOO_LARGE") throw bodyTooLarge(maxBytes);
    throw badField("", "the body must be valid gzip");
  }
}

/** 413: the body exceeds its limit. */
export function bodyTooLarge(maxBytes: number): HttpError {
  return new HttpError("TOO_LARGE", `the body must be at most ${maxBytes} bytes`);
}
