import { create, type JsonObject, type JsonValue, toJson } from "@bufbuild/protobuf";
import { Code, type ConnectError, type ContextValues, type HandlerContext } from "@connectrpc/connect";
import { BadRequestSchema, ResourceInfoSchema } from "#gen/google/rpc/error_details_pb.js";
import { ErrorSchema, NotFoundSchema } from "#gen/tollgate/v1/error_pb.js";
import { TracedataSchema } from "#gen/tollgate/v1/tracedata_pb.js";
import { describeViolations, findReason } from "../call/errors.ts";
import { complete } from "../shared/errors.ts";
import { type Reason, reasons } from "../shared/reasons.ts";
import { reasonFieldsOf } from "./call-log.ts";
import { originOf } from "./client-origin.ts";
import type { Pipeline } from "./pipeline.ts";
import type { PipelineOptions } from "./pipeline-call.ts";
import { requestStateOf } from "./request-state.ts";
import { createTracedata } from "./tracedata.ts";

export interface ErrorBody {
  /** The public error with its details. */
  readonly error: ConnectError;
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: JsonValue;
}

/** The failed request. */
export interface Failure {
  /** The context values of the request; undefined when the bytes were not an HTTP request. */
  readonly values: ContextValues | undefined;
  /** The call; undefined when no route matched. */
  readonly context: HandlerContext | undefined;
  /** The field that the HTTP body holds. HTTP callers do not send its name. */
  readonly bodyField: string | undefined;
  /** The HTTP status when it is more specific than the error's code: 405, 413, 415. */
  readonly status: number | undefined;
  /** The transport of a request that names no RPC. Default: http. */
  readonly protocolName?: string;
}

/** Creates the contract's HTTP error bodies from an error of any transport. */
export function createErrorBodies(
  options: Pick<PipelineOptions, "serverName" | "now" | "logger" | "calls">,
  pipeline: Pipeline,
) {
  return (error: ConnectError, failure: Failure): ErrorBody => {
    const known = error.findDetails(TracedataSchema).length > 0 ? error : toPublicError(error, failure);
    const reason = findReason(known) as Reason;
    const status = failure.status ?? reasons[reason].status;
    const headers = Object.fromEntries(known.metadata);
    const [missing] = known.code === Code.NotFound ? known.findDetails(ResourceInfoSchema) : [];
    if (missing === undefined) return { error: known, status, headers, body: errorBody(known, reason, failure) };
    return { error: known, status, headers, body: notFoundBody(known, reason, missing.resourceName) };
  };

  /** Completes an error that did not pass the pipeline: of an unreadable request, or one without an operation. */
  function toPublicError(error: ConnectError, { values, context, protocolName = "http" }: Failure): ConnectError {
    if (context !== undefined) return pipeline.refuse(context, error);
    const known = complete(error);
    options.calls?.countUnknown(protocolName, known.code);
    const { code } = originOf(values);
    if (values !== undefined) requestStateOf({ values }, options).error = known;
    else options.logger.info({ tracecode: code, ...reasonFieldsOf(known) }, "request refused");
    const { serverName: server, now } = options;
    const tracedata = createTracedata({ code, server, method: undefined, principal: undefined, timeMs: now() });
    known.details.push({ desc: TracedataSchema, value: tracedata });
    return known;
  }
}

const jsonOptions = { useProtoFieldName: true, alwaysEmitImplicit: true };

function errorBody(error: ConnectError, reason: Reason, { bodyField }: Failure): JsonValue {
  const prefix = `${bodyField}.`;
  const violations = error
    .findDetails(BadRequestSchema)
    .flatMap(({ fieldViolations }) => fieldViolations)
    .map(({ field, description }) => ({
      field: field.startsWith(prefix) ? field.slice(prefix.length) : field,
      description,
    }));
  const validations = violations.map(({ field, description }) => ({ field, message: description }));
  const [tracedata] = error.findDetails(TracedataSchema);
  // The message has the same names as the validations.
  const text = validations.length > 0 ? describeViolations(violations) : error.rawMessage;
  const message = create(ErrorSchema, { ...(tracedata && { tracedata }), message: text, reason, validations });
  const body = toJson(ErrorSchema, message, jsonOptions);
  if (validations.length > 0) return body;
  const { validations: _none, ...rest } = body as JsonObject;
  return rest;
}

function notFoundBody(error: ConnectError, reason: Reason, resourceId: string): JsonValue {
  const [tracedata] = error.findDetails(TracedataSchema);
  const detail = { ...(tracedata && { tracedata }), message: error.rawMessage, reason };
  return toJson(NotFoundSchema, create(NotFoundSchema, { resourceId, detail }), jsonOptions);
}
