import {
  type Context,
  context,
  type Span as OpenTelemetrySpan,
  propagation,
  ROOT_CONTEXT,
  SpanKind,
  SpanStatusCode,
  TraceFlags,
  trace,
} from "@opentelemetry/api";
import { OTLPTraceExporter } from "@opentelemetry/exporter-trace-otlp-http";
import { defaultResource, detectResources, envDetector, resourceFromAttributes } from "@opentelemetry/resources";
import { BatchSpanProcessor, NodeTracerProvider, type SpanExporter } from "@opentelemetry/sdk-trace-node";
import type { Logger } from "pino";
import { enableTracing, type Span, type SpanIds } from "../shared/tracing.ts";

/** The longest time that the end of the process waits for the last spans. */
const closeMs = 2000;

/**
 * Records spans and exports them to OTEL_EXPORTER_OTLP_ENDPOINT. This file is loaded only if that variable is set. The
 * other OTEL_… variables of OpenTelemetry apply.
 * @returns sends the last spans
 */
export function startTracing(logger: Logger): () => Promise<void> {
  const exporter = logFailures(new OTLPTraceExporter(), logger);
  // OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES win.
  const resource = defaultResource()
    .merge(resourceFromAttributes({ "service.name": "tollgate" }))
    .merge(detectResources({ detectors: [envDetector] }));
  const provider = new NodeTracerProvider({ resource, spanProcessors: [new BatchSpanProcessor(exporter)] });
  provider.register();
  const tracer = provider.getTracer("tollgate");
  enableTracing({
    startCall(name, headers) {
      const parent = propagation.extract(ROOT_CONTEXT, headers);
      return toSpan(tracer.startSpan(name, { kind: SpanKind.SERVER }, parent), parent);
    },
    startChild(name, attributes) {
      const parent = context.active();
      return toSpan(tracer.startSpan(name, { kind: SpanKind.CLIENT, attributes }, parent), parent);
    },
    startBatch(name, attributes, linked) {
      const links = linked.map(({ trace_id: traceId, span_id: spanId }) => ({
        context: { traceId, spanId, traceFlags: TraceFlags.SAMPLED },
      }));
      return toSpan(tracer.startSpan(name, { attributes, links, root: true }, ROOT_CONTEXT), ROOT_CONTEXT);
    },
    currentIds() {
      const span = trace.getActiveSpan();
      return span?.isRecording() === true ? idsOf(span) : undefined;
    },
  });
  return () => Promise.race([provider.shutdown(), new Promise<void>((done) => setTimeout(done, closeMs).unref())]);
}

function toSpan(span: OpenTelemetrySpan, parent: Context): Span {
  const own = trace.setSpan(parent, span);
  return {
    ids: idsOf(span),
    run: (work) => context.with(own, work),
    end(attributes = {}, error?) {
      span.setAttributes(attributes);
      if (error !== undefined) {
        // The message may hold what a caller has sent.
        span.setAttribute("error.type", error instanceof Error ? error.name : "error");
        span.setStatus({ code: SpanStatusCode.ERROR });
      }
      span.end();
    },
  };
}

function idsOf(span: OpenTelemetrySpan): SpanIds {
  const { traceId, spanId } = span.spanContext();
  return { trace_id: traceId, span_id: spanId };
}

/** Logs when exports begin to fail, and when they succeed again. */
function logFailures(exporter: SpanExporter, logger: Logger): SpanExporter {
  let isFailing = false;
  return {
    export(spans, done) {
      exporter.export(spans, (result) => {
        const isFailed = result.error !== undefined;
        if (isFailed && !isFailing) logger.warn({ err: result.error }, "span export failed");
        if (!isFailed && isFailing) logger.info("span export resumed");
        isFailing = isFailed;
        done(result);
      });
    },
    shutdown: () => exporter.shutdown(),
    forceFlush: async () => exporter.forceFlush?.(),
  };
}
