import type { IncomingHttpHeaders } from "node:http";
import type { DescMethod, DescService } from "@bufbuild/protobuf";
import { Code, ConnectError, type ContextValues, createContextKey, type HandlerContext } from "@connectrpc/connect";
import { callError } from "./errors.ts";

/** A call's context as Connect's handlers expect it, without the cost of Connect's own. */
export interface LightContext extends HandlerContext {
  /** The path of the RPC, or the template of the HTTP binding. It holds nothing that the caller sent. */
  readonly route: string;
  /** Headers that the handler set; undefined when it never accessed them. */
  readonly givenHeader: Headers | undefined;
  /** Trailers that the handler set; undefined when it never accessed them. */
  readonly givenTrailer: Headers | undefined;
  /** Why the call must stop; undefined while it may run. */
  readonly interruption: Interruption | undefined;
  /** Registers the one listener that is called when the call must stop. */
  onInterruption(listener: (reason: unknown) => void): void;
  /** Marks the call as finished: it stops the deadline's timer, and a close is no longer a cancellation. */
  end(): void;
}

/** The caller left, or its deadline passed. */
export interface Interruption {
  readonly reason: unknown;
}

/** The longest delay of a Node timer, 24.8 days: a longer one would fire at once. */
export const maxTimerMs = 2 ** 31 - 1;

export interface ContextInit {
  readonly method: DescMethod;
  readonly requestMethod: string;
  readonly route: string;
  readonly url: string;
  readonly headers: IncomingHttpHeaders;
  readonly values: ContextValues;
  readonly protocolName: string;
  /** The caller's deadline, in milliseconds from now. */
  readonly timeoutMs: number | undefined;
  /** Emits "close" when the response is sent or the caller has left. */
  readonly response: { once(event: "close", listener: () => void): unknown };
}

/** The context of the call that a request has become; undefined when it has not. */
export const callKey = createContextKey<LightContext | undefined>(undefined, { description: "call of a request" });

/** Creates the context of a call and sets `callKey` in its values. */
export function createContext(init: ContextInit): LightContext {
  return new CallContext(init);
}

/** A class, because an object literal with accessors takes a hundred times as long to create, and every call needs one. */
class CallContext implements LightContext {
  readonly method: DescMethod;
  readonly service: DescService;
  readonly requestMethod: string;
  readonly route: string;
  readonly protocolName: string;
  readonly values: ContextValues;
  readonly url: string;
  givenHeader: Headers | undefined = undefined;
  givenTrailer: Headers | undefined = undefined;
  interruption: Interruption | undefined = undefined;
  readonly #headers: IncomingHttpHeaders;
  readonly #deadlineMs: number | undefined;
  readonly #timer: NodeJS.Timeout | undefined;
  // Created on first access: most calls need none, and a signal costs more than the rest of a context.
  #controller: AbortController | undefined = undefined;
  #requestHeader: Headers | undefined = undefined;
  #listener: ((reason: unknown) => void) | undefined = undefined;
  #ended = false;

  constructor({ method, requestMethod, route, url, headers, values, protocolName, timeoutMs, response }: ContextInit) {
    this.method = method;
    this.service = method.parent;
    this.requestMethod = requestMethod;
    this.route = route;
    this.protocolName = protocolName;
    this.values = values;
    values.set(callKey, this);
    this.url = url;
    this.#headers = headers;
    this.#deadlineMs = timeoutMs === undefined ? undefined : Date.now() + timeoutMs;
    const expire = () =>
      this.#interrupt(callError("DEADLINE_EXCEEDED", Code.DeadlineExceeded, "the deadline has passed"));
    this.#timer = timeoutMs === undefined ? undefined : setTimeout(expire, Math.min(timeoutMs, maxTimerMs));
    response.once("close", () => {
      // Every call ends here. An error with a stack is created only for the few that were canceled.
      this.#interrupt(this.#ended ? finished : callerGone());
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

/** Returns the error of a call that its caller canceled or whose connection closed. */
export function callerGone(): ConnectError {
  return callError("CALLER_GONE", Code.Canceled, "the caller is gone");
}

const finished = new Error("the call has finished");

/** Resolves or rejects with `work`, unless the context is interrupted first: then it rejects with that reason. */
export function untilInterrupted<Result>(context: HandlerContext, work: Promise<Result>): Promise<Result> {
  return new Promise((resolve, reject) => {
    work.then(resolve, reject);
    if (isLight(context)) return context.onInterruption(reject);
    const { signal } = context;
    if (signal.aborted) return reject(signal.reason as Error);
    const stop = () => reject(signal.reason as Error);
    signal.addEventListener("abort", stop, { once: true });
    const unsubscribe = () => signal.removeEventListener("abort", stop);
    work.then(unsubscribe, unsubscribe);
  });
}

/** Yields the items until the context is interrupted, then ends their iterator without waiting for it. */
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
    const returned = iterator.return?.();
    if (interruptionOf(context) === undefined) await returned;
    else returned?.catch(() => undefined);
  }
}

/** Returns why a call must stop; undefined while it may run. Accepts our contexts and Connect's. */
export function interruptionOf(context: HandlerContext): Interruption | undefined {
  if (isLight(context)) return context.interruption;
  const { aborted, reason } = context.signal;
  if (!aborted) return undefined;
  // A caller may reset its stream with any error code. Each means that the caller left, not that the server failed.
  const isLate = reason instanceof ConnectError && reason.code === Code.DeadlineExceeded;
  return { reason: isLate ? reason : callerGone() };
}

function isLight(context: HandlerContext): context is LightContext {
  return "onInterruption" in context;
}

function toHeaders(headers: IncomingHttpHeaders): Headers {
  const result = new Headers();
  for (const [name, value] of Object.entries(headers)) {
    // Node lists HTTP/2 pseudo-headers among the headers.
    if (value === undefined || name.startsWith(":")) continue;
    for (const line of [value].flat()) result.append(name, line);
  }
  return result;
}
