import { create, type JsonObject, type JsonValue, toJson } from "@bufbuild/protobuf";
import { Code, type ConnectError, type ContextValues, type HandlerContext } from "@connectrpc/connect";
import { BadRequestSchema, ResourceInfoSchema } from "#gen/google/rpc/error_details_pb.js";
import { ErrorSchema, NotFoundSchema } from "#gen/tollgate/v1/error_pb.js";
import { TracedataSchema } from "#gen/tollgate/v1/tracedata_pb.js";
import { findReason } from "../call/errors.ts";
import { complete } from "../shared/errors.ts";
import { type Reason, reasons } from "../shared/reasons.ts";
import { originOf } from "./client-origin.ts";
import type { Pipeline, PipelineOptions } from "./pipeline.ts";
import { createTracedata } from "./tracedata.ts";

export interface ErrorBody {
  /** The error as a caller may read it, with its details. */
  readonly error: ConnectError;
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: JsonValue;
}

/** What the gateway tells of a failed request beside the error. */
export interface Failure {
  /** Of the request; undefined where there was none: bytes that are no HTTP. */
  readonly values: ContextValues | undefined;
  /** The call; undefined when no route matched. */
  readonly context: HandlerContext | undefined;
  /** The field that the HTTP body is: HTTP callers never wrote its name. */
  readonly bodyField: string | undefined;
  /** Where the status says more than the error's code: 405, 413, 415. */
  readonly status: number | undefined;
}

/** The contract's error bodies, out of the error that every door knows. */
export function createErrorBodies(options: Pick<PipelineOptions, "serverName" | "now" | "logger">, pipeline: Pipeline) {
  return (error: ConnectError, failure: Failure): ErrorBody => {
    const seen = error.findDetails(TracedataSchema).length > 0 ? error : explain(error, failure);
    const reason = findReason(seen) as Reason;
    const status = failure.status ?? reasons[reason].status;
    const headers = Object.fromEntries(seen.metadata);
    const [missing] = seen.code === Code.NotFound ? seen.findDetails(ResourceInfoSchema) : [];
    if (missing === undefined) return { error: seen, status, headers, body: errorBody(seen, reason, failure) };
    return { error: seen, status, headers, body: notFoundBody(seen, reason, missing.resourceName) };
  };

  /** An error that the pipeline has not seen: a request that could not be read, or has no operation. */
  function explain(error: ConnectError, { values, context }: Failure): ConnectError {
    if (context !== undefined) return pipeline.refuse(context, error);
    const known = complete(error);
    const { code } = originOf(values);
    options.logger.info({ tracecode: code, reason: findReason(known), message: known.rawMessage }, "request refused");
    const { serverName: server, now } = options;
    const tracedata = createTracedata({ code, server, method: undefined, principal: undefined, timeMs: now() });
    known.details.push({ desc: TracedataSchema, value: tracedata });
    return known;
  }
}

const spelling = { useProtoFieldName: true, alwaysEmitImplicit: true };

function errorBody(error: ConnectError, reason: Reason, { bodyField }: Failure): JsonValue {
  const violations = error.findDetails(BadRequestSchema).flatMap(({ fieldViolations }) => fieldViolations);
  const validations = violations.map(({ field, description }) => ({
    field: field.startsWith(`${bodyField}.`) ? field.slice(`${bodyField}.`.length) : field,
    message: description,
  }));
  const [tracedata] = error.findDetails(TracedataSchema);
  const text = error.rawMessage;
  const message = create(ErrorSchema, { ...(tracedata && { tracedata }), message: text, reason, validations });
  const body = toJson(ErrorSchema, message, spelling);
  if (validations.length > 0) return body;
  const { validations: _none, ...rest } = body as JsonObject;
  return rest;
}

function notFoundBody(error: ConnectError, reason: Reason, resourceId: string): JsonValue {
  const [tracedata] = error.findDetails(TracedataSchema);
  const detail = { ...(tracedata && { tracedata }), message: error.rawMessage, reason };
  return toJson(NotFoundSchema, create(NotFoundSchema, { resourceId, detail }), spelling);
}
