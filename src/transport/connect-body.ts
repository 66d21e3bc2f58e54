import { createCollector } from "../call/collector.ts";
import { bodyTooSlow } from "../gateway/body.ts";
import { toCallError } from "../gateway/errors.ts";

/** What a caller may send, and how long it may take. */
export interface ConnectBodyLimits {
  /** Of one message. */
  readonly maxBytes: number;
  /** How long the whole body may take. Undefined: as long as the caller likes. */
  readonly bodyTimeoutMs: number | undefined;
  /** How long the next piece may take. Undefined: as long as the caller likes. */
  readonly pieceTimeoutMs: number | undefined;
}

const headBytes = 5;

/**
 * The body of a request in pieces that Connect reads at little cost: whole messages. Connect keeps each piece that it
 * is given until a message is complete, and searches all of them at every piece.
 * @throws DEADLINE_EXCEEDED where the body or its next piece does not come in time
 */
export function readInMessages(
  body: AsyncIterable<Uint8Array>,
  contentType: string,
  limits: ConnectBodyLimits,
): AsyncIterable<Uint8Array> {
  const pieces = inTime(body, limits);
  const hasEnvelopes = /^application\/(grpc|connect\+)/.test(contentType);
  return hasEnvelopes ? inEnvelopes(pieces, limits.maxBytes) : inOne(pieces, limits.maxBytes);
}

/** The whole body. A longer one than is allowed is cut there, for Connect to refuse. */
async function* inOne(pieces: AsyncIterable<Uint8Array>, maxBytes: number): AsyncGenerator<Uint8Array> {
  const collected = createCollector();
  for await (const piece of pieces) {
    collected.add(piece);
    if (collected.length > maxBytes) break;
  }
  yield collected.bytes();
}

/** One or more whole envelopes at a time, then what is left: the head of one too long, or one that is not complete. */
async function* inEnvelopes(pieces: AsyncIterable<Uint8Array>, maxBytes: number): AsyncGenerator<Uint8Array> {
  const collected = createCollector();
  for await (const piece of pieces) {
    collected.add(piece);
    const bytes = collected.bytes();
    let whole = 0;
    let isTooLong = false;
    while (bytes.length - whole >= headBytes && !isTooLong) {
      const length = bytes.readUInt32BE(whole + 1);
      isTooLong = length > maxBytes;
      if (bytes.length - whole - headBytes < length) break;
      whole += headBytes + length;
    }
    if (isTooLong) break;
    if (whole === 0) continue;
    yield bytes.subarray(0, whole);
    collected.drop(whole);
  }
  if (collected.length > 0) yield collected.bytes();
}

/** Leaves the request as it is when the reader leaves: destroying it would take its answer along. */
async function* inTime(body: AsyncIterable<Uint8Array>, limits: ConnectBodyLimits): AsyncGenerator<Uint8Array> {
  const { bodyTimeoutMs, pieceTimeoutMs } = limits;
  const iterator = body[Symbol.asyncIterator]();
  const endMs = bodyTimeoutMs === undefined ? Number.POSITIVE_INFINITY : performance.now() + bodyTimeoutMs;
  for (;;) {
    const limitMs = Math.min(endMs - performance.now(), pieceTimeoutMs ?? Number.POSITIVE_INFINITY);
    const { done, value } = await within(iterator.next(), limitMs, bodyTimeoutMs ?? pieceTimeoutMs ?? 0);
    if (done === true) return;
    yield value;
  }
}

function within<Result>(work: Promise<Result>, limitMs: number, namedMs: number): Promise<Result> {
  if (limitMs === Number.POSITIVE_INFINITY) return work;
  return new Promise((resolve, reject) => {
    const late = () => reject(toCallError(bodyTooSlow(namedMs)));
    const timer = setTimeout(late, Math.max(0, limitMs));
    work.finally(() => clearTimeout(timer)).then(resolve, reject);
  });
}
