import { Code } from "@connectrpc/connect";
import { badField, HttpError } from "./errors.ts";
import type { GatewayRequest } from "./gateway.ts";

/** Whether the request brings a body, as its headers say. */
export function hasBody({ headers }: GatewayRequest): boolean {
  return headers["transfer-encoding"] !== undefined || Number(headers["content-length"] ?? 0) > 0;
}

/**
 * The body of a request as text.
 * @param maxBytes a longer one is 413, and the rest of it is not read
 */
export async function readBody(request: GatewayRequest, maxBytes: number): Promise<string> {
  checkType(request);
  if (Number(request.headers["content-length"] ?? 0) > maxBytes) throw tooLarge(maxBytes);
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    length += chunk.length;
    if (length > maxBytes) throw tooLarge(maxBytes);
    chunks.push(chunk);
  }
  const bytes = chunks.length === 1 ? (chunks[0] as Buffer) : Buffer.concat(chunks);
  try {
    return utf8.decode(bytes);
  } catch {
    throw badField("", "the body is not UTF-8");
  }
}

const utf8 = new TextDecoder("utf-8", { fatal: true });

function checkType({ headers }: GatewayRequest): void {
  const type = headers["content-type"] ?? "";
  const encoding = headers["content-encoding"] ?? "identity";
  if (/^application\/json *(; *charset="?utf-8"?)? *$/i.test(type) && encoding === "identity") return;
  throw new HttpError(415, Code.InvalidArgument, "the body must be application/json in UTF-8, not compressed");
}

function tooLarge(maxBytes: number): HttpError {
  return new HttpError(413, Code.ResourceExhausted, `the body is larger than ${maxBytes} bytes`);
}
