import { createCollector } from "../call/collector.ts";
import { callerGone, type LightContext } from "../call/context.ts";
import { bodyTooLarge, checkJsonType, codingOf, decompress } from "./content.ts";
import { badField, HttpError, toCallError } from "./errors.ts";
import type { GatewayRequest } from "./exchange.ts";
import { decodeUtf8 } from "./json/read.ts";

/** What a body may be. */
export interface BodyLimits {
  /** A longer one is 413, and the rest of it is not kept. */
  readonly maxBytes: number;
  /** Who takes longer to send it is 408. */
  readonly timeoutMs: number;
}

/** Whether the request brings a body, as its headers say; it may turn out to be empty. */
export function hasBody(request: GatewayRequest): boolean {
  if ("stream" in request) return !request.stream.endAfterHeaders;
  return request.headers["transfer-encoding"] !== undefined || Number(request.headers["content-length"] ?? 0) > 0;
}

/** What ends the wait for a body: told once, while it lasts. */
export type Interruptible = Pick<LightContext, "interruption" | "onInterruption">;

/** The body of a request as text. */
export async function readBody(request: GatewayRequest, limits: BodyLimits, context: Interruptible): Promise<string> {
  if (!hasBody(request)) throw badField("", "a JSON body is required");
  checkJsonType(request);
  const coding = codingOf(request, ["gzip", "identity"]);
  const { maxBytes } = limits;
  if (Number(request.headers["content-length"] ?? 0) > maxBytes) throw bodyTooLarge(maxBytes);
  const bytes = await readBytes(request, limits, context);
  if (bytes === undefined) throw bodyTooLarge(maxBytes);
  return decodeUtf8(coding === "gzip" ? await decompress(bytes, maxBytes) : bytes);
}

/** Makes sure that a request brings no body, whatever its type. */
export async function refuseBody(request: GatewayRequest, limits: BodyLimits, context: Interruptible): Promise<void> {
  // Of no announced length, it is known to be empty at its end only.
  if (hasBody(request) && (await readBytes(request, { ...limits, maxBytes: 0 }, context)) === undefined) {
    throw badField("", "this operation takes no body");
  }
}

/**
 * The body of a request as it comes, at the pace of its reader: however long it is, so the reader has to bound it. Who
 * sends nothing for as long as a whole body may take is 408.
 */
export async function* streamBody(
  request: GatewayRequest,
  { timeoutMs }: BodyLimits,
  signal: AbortSignal,
): AsyncGenerator<Buffer> {
  checkUncompressed(request);
  let ended = !hasBody(request);
  let broken = false;
  const end = () => (ended = true);
  const breakOff = () => (broken = true);
  request.once("end", end).once("aborted", breakOff).once("error", breakOff);
  try {
    for (;;) {
      signal.throwIfAborted();
      const chunk = request.read() as Buffer | null;
      if (chunk !== null) yield chunk;
      else if (broken || request.aborted) throw callerGone();
      else if (ended) return;
      else await more(request, timeoutMs, signal);
    }
  } finally {
    request.off("end", end).off("aborted", breakOff);
  }
}

/** Resolves when there is something new to know of a body. */
function more(request: GatewayRequest, timeoutMs: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const news = ["readable", "end", "aborted", "error", "close"];
    const settle = (outcome: () => void) => {
      clearTimeout(timer);
      for (const event of news) request.off(event, done);
      signal.removeEventListener("abort", leave);
      outcome();
    };
    const done = () => settle(resolve);
    const leave = () => settle(() => reject(signal.reason as Error));
    const timer = setTimeout(() => settle(() => reject(toCallError(bodyTooSlow(timeoutMs)))), timeoutMs);
    for (const event of news) request.once(event, done);
    signal.addEventListener("abort", leave, { once: true });
  });
}

/** A stream is stored as it comes. */
function checkUncompressed(request: GatewayRequest): void {
  try {
    codingOf(request, ["identity"]);
  } catch (error) {
    throw error instanceof HttpError ? toCallError(error) : error;
  }
}

/** 408: the rest of the body does not come. */
export function bodyTooSlow(timeoutMs: number): HttpError {
  return new HttpError("BODY_TOO_SLOW", `the body did not come within ${timeoutMs} ms`);
}

/**
 * Undefined for a longer body. By events, since leaving an iteration early would destroy the request, and with it the
 * connection that the refusal must take.
 */
function readBytes(
  request: GatewayRequest,
  { maxBytes, timeoutMs }: BodyLimits,
  context: Interruptible,
): Promise<Buffer | undefined> {
  return new Promise((done, fail) => {
    const collected = createCollector();
    let isOver = false;
    if (context.interruption !== undefined) return fail(context.interruption.reason);
    const timer = setTimeout(tire, timeoutMs);
    request.on("data", take).once("end", end);
    context.onInterruption(leave);

    function take(chunk: Buffer): void {
      collected.add(chunk);
      if (collected.length > maxBytes) settle(undefined);
    }

    function end(): void {
      // HTTP/2 ends what the caller has cut off, too.
      if (request.aborted) fail(callerGone());
      settle(collected.bytes());
    }

    function settle(bytes: Buffer | undefined): void {
      isOver = true;
      clearTimeout(timer);
      request.off("data", take).off("end", end).pause();
      done(bytes);
    }

    function tire(): void {
      fail(bodyTooSlow(timeoutMs));
      settle(undefined);
    }

    function leave(reason: unknown): void {
      // The rest of a body that was refused is being thrown away: it must not stop.
      if (isOver) return;
      fail(reason);
      settle(undefined);
    }
  });
}
