import { type CallOptions, Code, ConnectError } from "@connectrpc/connect";

/** A call that may share a batch. */
export interface CoalescedCall {
  readonly headers: CallOptions["headers"];
  readonly signal: AbortSignal | undefined;
  readonly timeoutMs: number | undefined;
}

/** The answer to one request of a batch. "alone": the server answers it only in a call of its own. */
export type BatchAnswer<Answer> = { readonly answer: Answer } | { readonly error: ConnectError } | "alone";

export interface CoalesceOptions<Request, Answer> {
  /** How long a call waits for others while calls are in flight, in milliseconds. */
  readonly windowMs: number;
  /** The share of a batch that a request takes, 0..1. */
  readonly sizeOf: (request: Request) => number;
  readonly sendOne: (request: Request, call: CoalescedCall) => Promise<Answer>;
  /** Returns an answer for each request, in order. */
  readonly sendBatch: (requests: readonly Request[], call: CoalescedCall) => Promise<readonly BatchAnswer<Answer>[]>;
}

interface Waiting<Request, Answer> {
  readonly request: Request;
  readonly call: CoalescedCall;
  /** By performance.now(). */
  readonly deadlineMs: number;
  readonly resolve: (answer: Answer | Promise<Answer>) => void;
  readonly reject: (error: unknown) => void;
}

/**
 * Returns a function that sends each request alone or in a batch with concurrent ones. A call that finds no other leaves
 * at the end of the turn of the event loop. While a call is in flight, others wait until it is answered, at most
 * `windowMs`, and leave together. Each call keeps its own deadline, signal and error. Calls with different headers never
 * share a batch.
 */
export function createCoalescer<Request, Answer>(options: CoalesceOptions<Request, Answer>) {
  /** By headers. */
  const queues = new Map<string, Queue<Request, Answer>>();

  return (request: Request, call: CoalescedCall): Promise<Answer> => {
    const key = keyOf(call.headers);
    const queue = queues.get(key) ?? createQueue(options, () => queues.delete(key));
    queues.set(key, queue);
    return new Promise((resolve, reject) => {
      const deadlineMs = performance.now() + (call.timeoutMs ?? Number.POSITIVE_INFINITY);
      queue.add({ request, call, deadlineMs, resolve, reject });
    });
  };
}

interface Queue<Request, Answer> {
  add(item: Waiting<Request, Answer>): void;
}

/** Browsers have no setImmediate. There, the calls that are made together leave together. */
const atEndOfTurn: (work: () => void) => void = globalThis.setImmediate ?? queueMicrotask;

/** @param onIdle called when no call waits or is in flight */
function createQueue<Request, Answer>(
  options: CoalesceOptions<Request, Answer>,
  onIdle: () => void,
): Queue<Request, Answer> {
  let waiting: Waiting<Request, Answer>[] = [];
  let inFlight = 0;
  let isLeaving = false;
  let windowTimer: ReturnType<typeof setTimeout> | undefined;

  function leaveSoon(): void {
    if (isLeaving) return;
    isLeaving = true;
    atEndOfTurn(leave);
  }

  function leave(): void {
    isLeaving = false;
    clearTimeout(windowTimer);
    windowTimer = undefined;
    const items = waiting;
    waiting = [];
    for (const batch of divide(items.filter(isOpen), options.sizeOf)) {
      inFlight += 1;
      void send(options, batch).finally(() => {
        inFlight -= 1;
        if (waiting.length > 0) leaveSoon();
        else if (inFlight === 0) onIdle();
      });
    }
    if (inFlight === 0) onIdle();
  }

  return {
    add(item) {
      waiting.push(item);
      if (inFlight === 0) leaveSoon();
      else windowTimer ??= setTimeout(leaveSoon, options.windowMs);
    },
  };
}

/** Returns whether a call still wants its answer. Rejects it otherwise. */
function isOpen({ call, deadlineMs, reject }: Waiting<unknown, never>): boolean {
  if (call.signal?.aborted === true) reject(canceled(call.signal));
  else if (deadlineMs <= performance.now()) reject(timedOut());
  else return true;
  return false;
}

/** Divides requests into batches that are full at most. A request that is larger than a batch is alone. */
function divide<Request, Answer>(
  items: readonly Waiting<Request, Answer>[],
  sizeOf: (request: Request) => number,
): Waiting<Request, Answer>[][] {
  const batches: Waiting<Request, Answer>[][] = [];
  let size = Number.POSITIVE_INFINITY;
  for (const item of items) {
    const own = sizeOf(item.request);
    size += own;
    if (size <= 1) batches.at(-1)?.push(item);
    else {
      batches.push([item]);
      size = own;
    }
  }
  return batches;
}

async function send<Request, Answer>(
  options: CoalesceOptions<Request, Answer>,
  batch: readonly Waiting<Request, Answer>[],
): Promise<void> {
  const sendAlone = ({ request, call, deadlineMs }: Waiting<Request, Answer>) =>
    options.sendOne(request, { ...call, timeoutMs: remainingMs(deadlineMs) });
  const [first] = batch;
  if (first === undefined) return;
  if (batch.length === 1) {
    await sendAlone(first).then(first.resolve, first.reject);
    return;
  }
  const abandoned = new AbortController();
  let open = batch.length;
  const ends = batch.map(({ call, deadlineMs, reject }) =>
    onEnd(call.signal, deadlineMs, (error) => {
      reject(error);
      open -= 1;
      if (open === 0) abandoned.abort();
    }),
  );
  try {
    const requests = batch.map(({ request }) => request);
    const timeoutMs = remainingMs(Math.max(...batch.map(({ deadlineMs }) => deadlineMs)));
    const answers = await options.sendBatch(requests, { ...first.call, signal: abandoned.signal, timeoutMs });
    for (const [index, item] of batch.entries()) {
      const answer = answers[index] ?? "alone";
      // The answers of others do not wait for a call of its own.
      if (answer === "alone") item.resolve(sendAlone(item));
      else if ("error" in answer) item.reject(answer.error);
      else item.resolve(answer.answer);
    }
  } catch (error) {
    for (const { reject } of batch) reject(error);
  } finally {
    for (const end of ends) end();
  }
}

/** Calls back when the signal is aborted or the deadline passes. Returns a function that stops waiting. */
function onEnd(signal: AbortSignal | undefined, deadlineMs: number, notify: (error: ConnectError) => void): () => void {
  const onAbort = () => end(canceled(signal));
  const afterMs = remainingMs(deadlineMs);
  const timer = afterMs === undefined ? undefined : setTimeout(() => end(timedOut()), afterMs);
  signal?.addEventListener("abort", onAbort);
  return stop;

  function end(error: ConnectError): void {
    stop();
    notify(error);
  }

  function stop(): void {
    clearTimeout(timer);
    signal?.removeEventListener("abort", onAbort);
  }
}

function remainingMs(deadlineMs: number): number | undefined {
  return Number.isFinite(deadlineMs) ? Math.max(1, Math.ceil(deadlineMs - performance.now())) : undefined;
}

/** The errors of Connect's own calls. */
function canceled(signal: AbortSignal | undefined): ConnectError {
  return ConnectError.from(signal?.reason, Code.Canceled);
}

function timedOut(): ConnectError {
  return new ConnectError("the operation timed out", Code.DeadlineExceeded);
}

function keyOf(headers: CallOptions["headers"]): string {
  if (headers === undefined) return "";
  return JSON.stringify(headers instanceof Headers ? [...headers] : headers);
}
