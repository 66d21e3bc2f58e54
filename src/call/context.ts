import type { IncomingHttpHeaders } from "node:http";
import type { DescMethod, DescService } from "@bufbuild/protobuf";
import { Code, ConnectError, type ContextValues, type HandlerContext } from "@connectrpc/connect";
import { callError } from "./errors.ts";

/** A call's context as Connect's handlers know it, without the cost of Connect's own. */
export interface LightContext extends HandlerContext {
  /** What the handler wants to be sent before its answer; undefined where it has not even looked. */
  readonly givenHeader: Headers | undefined;
  /** The same of what is to be sent after it. */
  readonly givenTrailer: Headers | undefined;
  /** Why the call is not to go on; undefined while it is. */
  readonly interruption: Interruption | undefined;
  /** Calls one listener back when the call is not to go on. */
  onInterruption(listener: (reason: unknown) => void): void;
  /** The call has its answer: its deadline no longer counts, and the caller may go. */
  end(): void;
}

/** The caller is gone, or its deadline has passed. */
export interface Interruption {
  readonly reason: unknown;
}

/** The longest that a timer holds, 24.8 days: a longer one would be over at once. */
export const maxTimerMs = 2 ** 31 - 1;

export interface ContextInit {
  readonly method: DescMethod;
  readonly requestMethod: string;
  readonly url: string;
  readonly headers: IncomingHttpHeaders;
  readonly values: ContextValues;
  readonly protocolName: string;
  /** The caller's deadline, in milliseconds from now. */
  readonly timeoutMs: number | undefined;
  /** Where the answer goes: it emits "close" when the answer is out, or the caller gone. */
  readonly answer: { once(event: "close", listener: () => void): unknown };
}

export function createContext(init: ContextInit): LightContext {
  return new CallContext(init);
}

/** A class, since an object with accessors of its own takes a hundred times as long to make: every call makes one. */
class CallContext implements LightContext {
  readonly method: DescMethod;
  readonly service: DescService;
  readonly requestMethod: string;
  readonly protocolName: string;
  readonly values: ContextValues;
  readonly url: string;
  givenHeader: Headers | undefined = undefined;
  givenTrailer: Headers | undefined = undefined;
  interruption: Interruption | undefined = undefined;
  readonly #headers: IncomingHttpHeaders;
  readonly #deadlineMs: number | undefined;
  readonly #timer: NodeJS.Timeout | undefined;
  // Made when somebody asks for them: most calls do not, and a signal costs more than all the rest of a context.
  #controller: AbortController | undefined = undefined;
  #requestHeader: Headers | undefined = undefined;
  #listener: ((reason: unknown) => void) | undefined = undefined;
  #ended = false;

  constructor({ method, requestMethod, url, headers, values, protocolName, timeoutMs, answer }: ContextInit) {
    this.method = method;
    this.service = method.parent;
    this.requestMethod = requestMethod;
    this.protocolName = protocolName;
    this.values = values;
    this.url = url;
    this.#headers = headers;
    this.#deadlineMs = timeoutMs === undefined ? undefined : Date.now() + timeoutMs;
    const late = () =>
      this.#interrupt(callError("DEADLINE_EXCEEDED", Code.DeadlineExceeded, "the deadline has passed"));
    this.#timer = timeoutMs === undefined ? undefined : setTimeout(late, Math.min(timeoutMs, maxTimerMs));
    answer.once("close", () => {
      // Every call ends here: an error with a stack is made only for the few that are cut off.
      this.#interrupt(this.#ended ? over : callerGone());
    });
  }

  get signal(): AbortSignal {
    this.#controller ??= new AbortController();
    if (this.interruption !== undefined) this.#controller.abort(this.interruption.reason);
    return this.#controller.signal;
  }

  get requestHeader(): Headers {
    this.#requestHeader ??= toHeaders(this.#headers);
    return this.#requestHeader;
  }

  get responseHeader(): Headers {
    this.givenHeader ??= new Headers();
    return this.givenHeader;
  }

  get responseTrailer(): Headers {
    this.givenTrailer ??= new Headers();
    return this.givenTrailer;
  }

  timeoutMs(): number | undefined {
    return this.#deadlineMs === undefined ? undefined : Math.max(0, this.#deadlineMs - Date.now());
  }

  onInterruption(listener: (reason: unknown) => void): void {
    if (this.interruption === undefined) this.#listener = listener;
    else listener(this.interruption.reason);
  }

  end(): void {
    this.#ended = true;
    clearTimeout(this.#timer);
  }

  #interrupt(reason: unknown): void {
    if (this.interruption !== undefined) return;
    this.interruption = { reason };
    this.#listener?.(reason);
    this.#controller?.abort(reason);
  }
}

export function callerGone(): ConnectError {
  return callError("CALLER_GONE", Code.Canceled, "the caller is gone");
}

const over = new Error("the call is over");

/** What a call comes to, unless its context is interrupted before: then the interruption's reason. */
export function untilInterrupted<Result>(context: HandlerContext, work: Promise<Result>): Promise<Result> {
  return new Promise((resolve, reject) => {
    work.then(resolve, reject);
    if (isLight(context)) return context.onInterruption(reject);
    const { signal } = context;
    if (signal.aborted) return reject(signal.reason as Error);
    const stop = () => reject(signal.reason as Error);
    signal.addEventListener("abort", stop, { once: true });
    const leave = () => signal.removeEventListener("abort", stop);
    work.then(leave, leave);
  });
}

/** The same of a stream of answers. Who makes them is told to end; after an interruption nobody waits for that. */
export async function* eachUntilInterrupted<Item>(
  context: HandlerContext,
  items: AsyncIterable<Item>,
): AsyncGenerator<Item> {
  const iterator = items[Symbol.asyncIterator]();
  try {
    for (;;) {
      const next = await untilInterrupted(context, iterator.next());
      if (next.done === true) return;
      yield next.value;
    }
  } finally {
    const left = iterator.return?.();
    if (interruptionOf(context) === undefined) await left;
    else left?.catch(() => undefined);
  }
}

/** Why a call is not to go on, whoever made its context. */
export function interruptionOf(context: HandlerContext): Interruption | undefined {
  if (isLight(context)) return context.interruption;
  const { aborted, reason } = context.signal;
  if (!aborted) return undefined;
  // Whatever the error code with which a caller resets its stream: it is gone, and no fault of ours.
  const isLate = reason instanceof ConnectError && reason.code === Code.DeadlineExceeded;
  return { reason: isLate ? reason : callerGone() };
}

function isLight(context: HandlerContext): context is LightContext {
  return "onInterruption" in context;
}

function toHeaders(headers: IncomingHttpHeaders): Headers {
  const result = new Headers();
  for (const [name, value] of Object.entries(headers)) {
    // HTTP/2 lists its pseudo-headers too.
    if (value === undefined || name.startsWith(":")) continue;
    for (const one of [value].flat()) result.append(name, one);
  }
  return result;
}
