/** Values of a span, by their names in OpenTelemetry's semantic conventions. */
export type SpanAttributes = Readonly<Record<string, string | number>>;

/** The ids of a span, named as in log lines. */
export interface SpanIds {
  readonly trace_id: string;
  readonly span_id: string;
}

/** A span in progress. */
export interface Span {
  readonly ids: SpanIds;
  /** Runs work whose spans are children of this one. */
  run<Result>(work: () => Result): Result;
  /** @param error marks the span as failed */
  end(attributes?: SpanAttributes, error?: unknown): void;
}

/** The headers of a request, with `traceparent` and `tracestate` of W3C Trace Context if the caller is traced. */
export type TraceHeaders = Readonly<Record<string, string | string[] | undefined>>;

export interface Tracer {
  /** Starts the span of a call. Its parent is the caller's span in the headers, if there is one. */
  startCall(name: string, headers: TraceHeaders): Span;
  /** Starts a child of the current span. */
  startChild(name: string, attributes: SpanAttributes): Span;
  /** Starts a span without a parent that is linked to other spans. */
  startBatch(name: string, attributes: SpanAttributes, links: readonly SpanIds[]): Span;
  /** Returns the ids of the current span. Undefined outside every span, and where the trace is not sampled. */
  currentIds(): SpanIds | undefined;
}

let tracer: Tracer | undefined;

/** Turns tracing on for this process. It is off until then, and each place that may start a span costs one comparison. */
export function enableTracing(enabled: Tracer): void {
  tracer = enabled;
}

/** Returns the tracer. Undefined while tracing is off. */
export function currentTracer(): Tracer | undefined {
  return tracer;
}

/** Runs work in a child of the current span, if tracing is on. */
export function trace<Result>(name: string, attributes: SpanAttributes, work: () => Promise<Result>): Promise<Result> {
  return tracer === undefined ? work() : endWith(tracer.startChild(name, attributes), work);
}

/** Runs work in a span, and ends the span when the work settles. */
export async function endWith<Result>(span: Span, work: () => Promise<Result>): Promise<Result> {
  try {
    const result = await span.run(work);
    span.end();
    return result;
  } catch (error) {
    span.end({}, error);
    throw error;
  }
}

/** Runs each step of a stream in a span: a generator continues in the context of the one that takes its next value. */
export async function* traceEach<Value>(span: Span, start: () => AsyncIterable<Value>): AsyncGenerator<Value> {
  const iterator = span.run(start)[Symbol.asyncIterator]();
  try {
    for (;;) {
      const { done, value } = await span.run(() => iterator.next());
      if (done === true) return;
      yield value;
    }
  } finally {
    await iterator.return?.();
  }
}
