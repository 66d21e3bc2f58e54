import { createCollector } from "../call/collector.ts";
import { callerGone, type LightContext } from "../call/context.ts";
import { bodyTooLarge, checkJsonType, codingOf, decompress } from "./content.ts";
import { badField, HttpError, toCallError } from "./errors.ts";
import type { GatewayRequest } from "./exchange.ts";
import { decodeUtf8 } from "./json/read.ts";

/** Limits of a request body. */
export interface BodyLimits {
  /** A longer body is refused with 413, and its remaining bytes are dropped. */
  readonly maxBytes: number;
  /** A body that takes longer to arrive is 408. */
  readonly timeoutMs: number;
}

/** Whether the headers announce a body. It may turn out to be empty. */
export function hasBody(request: GatewayRequest): boolean {
  if ("stream" in request) return !request.stream.endAfterHeaders;
  return request.headers["transfer-encoding"] !== undefined || Number(request.headers["content-length"] ?? 0) > 0;
}

/** Interrupts the wait for a body. */
export type Interruptible = Pick<LightContext, "interruption" | "onInterruption">;

/**
 * Reads the body of a request as text.
 * @throws INVALID_ARGUMENT when it is missing or not UTF-8; 408, 413 and 415 as HttpError
 */
export async function readBody(request: GatewayRequest, limits: BodyLimits, context: Interruptible): Promise<string> {
  if (!hasBody(request)) throw badField("", "the body must be JSON and must not be empty");
  checkJsonType(request);
  const coding = codingOf(request, ["gzip", "identity"]);
  const { maxBytes } = limits;
  if (Number(request.headers["content-length"] ?? 0) > maxBytes) throw bodyTooLarge(maxBytes);
  const bytes = await readBytes(request, limits, context);
  if (bytes === undefined) throw bodyTooLarge(maxBytes);
  return decodeUtf8(coding === "gzip" ? await decompress(bytes, maxBytes) : bytes);
}

/**
 * Reads a body that the headers announce, which must turn out to be empty.
 * @throws INVALID_ARGUMENT when it is not, whatever its type
 */
export async function refuseBody(request: GatewayRequest, limits: BodyLimits, context: Interruptible): Promise<void> {
  // A body without a Content-Length must be read to its end to see that it is empty.
  if ((await readBytes(request, { ...limits, maxBytes: 0 }, context)) === undefined) {
    throw badField("", "the body must be empty");
  }
}

/**
 * Streams the body of a request at the pace of its reader, who must bound its length. When no bytes arrive for `timeoutMs`,
 * it throws DEADLINE_EXCEEDED (408).
 */
export async function* streamBody(
  request: GatewayRequest,
  { timeoutMs }: BodyLimits,
  signal: AbortSignal,
): AsyncGenerator<Buffer> {
  checkUncompressed(request);
  let ended = !hasBody(request);
  let failed = false;
  const onEnd = () => (ended = true);
  const onFailure = () => (failed = true);
  request.once("end", onEnd).once("aborted", onFailure).once("error", onFailure);
  try {
    for (;;) {
      signal.throwIfAborted();
      const chunk = request.read() as Buffer | null;
      if (chunk !== null) yield chunk;
      else if (failed || request.aborted) throw callerGone();
      else if (ended) return;
      else await nextEvent(request, timeoutMs, signal);
    }
  } finally {
    request.off("end", onEnd).off("aborted", onFailure);
  }
}

/** Resolves when more of a body can be read, or when it has ended. */
function nextEvent(request: GatewayRequest, timeoutMs: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const events = ["readable", "end", "aborted", "error", "close"];
    const settle = (outcome: () => void) => {
      clearTimeout(timer);
      for (const event of events) request.off(event, done);
      signal.removeEventListener("abort", onAbort);
      outcome();
    };
    const done = () => settle(resolve);
    const onAbort = () => settle(() => reject(signal.reason as Error));
    const timer = setTimeout(() => settle(() => reject(toCallError(bodyTooSlow(timeoutMs)))), timeoutMs);
    for (const event of events) request.once(event, done);
    signal.addEventListener("abort", onAbort, { once: true });
  });
}

/** Streamed bodies are stored as they arrive, so they must not be compressed. */
function checkUncompressed(request: GatewayRequest): void {
  try {
    codingOf(request, ["identity"]);
  } catch (error) {
    throw error instanceof HttpError ? toCallError(error) : error;
  }
}

/** 408: the body did not arrive in time. */
export function bodyTooSlow(timeoutMs: number): HttpError {
  return new HttpError("BODY_TOO_SLOW", `the body must arrive within ${timeoutMs} ms`);
}

/**
 * Reads a whole body; undefined when it is too long. It listens to events, because ending an iterator early would destroy
 * the request and the connection that the error response needs.
 */
function readBytes(
  request: GatewayRequest,
  { maxBytes, timeoutMs }: BodyLimits,
  context: Interruptible,
): Promise<Buffer | undefined> {
  return new Promise((resolve, reject) => {
    const collected = createCollector();
    let isSettled = false;
    if (context.interruption !== undefined) return reject(context.interruption.reason);
    const timer = setTimeout(onTimeout, timeoutMs);
    request.on("data", onData).once("end", onEnd);
    context.onInterruption(onInterruption);

    function onData(chunk: Buffer): void {
      collected.add(chunk);
      if (collected.length > maxBytes) settle(undefined);
    }

    function onEnd(): void {
      // Node also emits "end" for an HTTP/2 body that the caller canceled.
      if (request.aborted) reject(callerGone());
      settle(collected.bytes());
    }

    function settle(bytes: Buffer | undefined): void {
      isSettled = true;
      clearTimeout(timer);
      request.off("data", onData).off("end", onEnd).pause();
      resolve(bytes);
    }

    function onTimeout(): void {
      reject(bodyTooSlow(timeoutMs));
      settle(undefined);
    }

    function onInterruption(reason: unknown): void {
      // The rest of a refused body is being dropped: pausing it here would keep the connection open.
      if (isSettled) return;
      reject(reason);
      settle(undefined);
    }
  });
}
