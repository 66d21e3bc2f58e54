import { createCollector } from "../call/collector.ts";
import { bodyTooSlow } from "../gateway/body.ts";
import { toCallError } from "../gateway/errors.ts";

/** Limits of the request body. */
export interface ConnectBodyLimits {
  /** Per message. */
  readonly maxBytes: number;
  /** How long the whole body may take; undefined: unlimited. */
  readonly bodyTimeoutMs: number | undefined;
  /** How long the next piece may take; undefined: unlimited. */
  readonly pieceTimeoutMs: number | undefined;
}

/** A flag byte and a length of four bytes. */
const prefixBytes = 5;

/**
 * Splits the body of a request into whole messages. Connect buffers pieces until a message is complete and scans all of
 * them for each new piece, which is slow for small pieces.
 * @throws DEADLINE_EXCEEDED when the body or its next piece does not arrive in time
 */
export function readInMessages(
  body: AsyncIterable<Uint8Array>,
  contentType: string,
  limits: ConnectBodyLimits,
): AsyncIterable<Uint8Array> {
  const pieces = withTimeouts(body, limits);
  const hasEnvelopes = /^application\/(grpc|connect\+)/i.test(contentType);
  return hasEnvelopes ? splitEnvelopes(pieces, limits.maxBytes) : joinWhole(pieces, limits.maxBytes);
}

/** Yields the whole body at once. A body that is too long is cut after the limit, so that Connect rejects it. */
async function* joinWhole(pieces: AsyncIterable<Uint8Array>, maxBytes: number): AsyncGenerator<Uint8Array> {
  const collected = createCollector();
  for await (const piece of pieces) {
    collected.add(piece);
    if (collected.length > maxBytes) break;
  }
  yield collected.bytes();
}

/** Yields whole envelopes, then the rest: the start of an envelope that is too long or incomplete. */
async function* splitEnvelopes(pieces: AsyncIterable<Uint8Array>, maxBytes: number): AsyncGenerator<Uint8Array> {
  const collected = createCollector();
  for await (const piece of pieces) {
    collected.add(piece);
    const bytes = collected.bytes();
    let whole = 0;
    let isTooLong = false;
    while (bytes.length - whole >= prefixBytes && !isTooLong) {
      const length = bytes.readUInt32BE(whole + 1);
      isTooLong = length > maxBytes;
      if (bytes.length - whole - prefixBytes < length) break;
      whole += prefixBytes + length;
    }
    if (isTooLong) break;
    if (whole === 0) continue;
    yield bytes.subarray(0, whole);
    collected.drop(whole);
  }
  if (collected.length > 0) yield collected.bytes();
}

/** Does not end the iterator of the request when the reader stops: that would destroy the request and its response. */
async function* withTimeouts(body: AsyncIterable<Uint8Array>, limits: ConnectBodyLimits): AsyncGenerator<Uint8Array> {
  const { bodyTimeoutMs, pieceTimeoutMs } = limits;
  const iterator = body[Symbol.asyncIterator]();
  const endMs = bodyTimeoutMs === undefined ? Number.POSITIVE_INFINITY : performance.now() + bodyTimeoutMs;
  for (;;) {
    const limitMs = Math.min(endMs - performance.now(), pieceTimeoutMs ?? Number.POSITIVE_INFINITY);
    const reportedMs = bodyTimeoutMs ?? pieceTimeoutMs ?? 0;
    const { done, value } = await settleWithin(iterator.next(), { limitMs, reportedMs });
    if (done === true) return;
    yield value;
  }
}

function settleWithin<Result>(
  work: Promise<Result>,
  { limitMs, reportedMs }: { limitMs: number; reportedMs: number },
): Promise<Result> {
  if (limitMs === Number.POSITIVE_INFINITY) return work;
  return new Promise((resolve, reject) => {
    const expire = () => reject(toCallError(bodyTooSlow(reportedMs)));
    const timer = setTimeout(expire, Math.max(0, limitMs));
    work.finally(() => clearTimeout(timer)).then(resolve, reject);
  });
}
