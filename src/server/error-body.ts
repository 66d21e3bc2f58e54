import { create, type JsonObject, type JsonValue, toJson } from "@bufbuild/protobuf";
import { Code, type ConnectError, type ContextValues, type HandlerContext } from "@connectrpc/connect";
import { BadRequestSchema, ErrorInfoSchema, ResourceInfoSchema } from "#gen/google/rpc/error_details_pb.js";
import { ErrorSchema, NotFoundSchema } from "#gen/tollgate/v1/error_pb.js";
import { type Tracedata, TracedataSchema } from "#gen/tollgate/v1/tracedata_pb.js";
import { tooLargeReason } from "../core/errors.ts";
import { httpStatusOf } from "../gateway/status.ts";
import { originOf } from "./origin.ts";
import type { Pipeline, PipelineOptions } from "./pipeline.ts";
import { traceOf } from "./trace.ts";

export interface ErrorBody {
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
    const status = failure.status ?? statusOf(error);
    const tracedata = error.findDetails(TracedataSchema)[0] ?? traceFailure(error, failure);
    const headers = Object.fromEntries(error.metadata);
    const [missing] = error.code === Code.NotFound ? error.findDetails(ResourceInfoSchema) : [];
    if (missing === undefined) return { status, headers, body: errorBody(error, tracedata, failure) };
    const detail = { tracedata, message: error.rawMessage };
    const notFound = create(NotFoundSchema, { resourceId: missing.resourceName, detail });
    return { status, headers, body: toJson(NotFoundSchema, notFound, spelling) };
  };

  /** An error that no handler has seen: a request that could not be read, or none of ours. */
  function traceFailure(error: ConnectError, { values, context }: Failure): Tracedata {
    if (context !== undefined) return pipeline.refuse(context, error).findDetails(TracedataSchema)[0] as Tracedata;
    const { code } = originOf(values);
    options.logger.info({ tracecode: code, reason: error.rawMessage }, "request refused");
    const { serverName: server, now } = options;
    return traceOf({ code, server, method: undefined, principal: undefined, timeMs: now() });
  }
}

const spelling = { useProtoFieldName: true, alwaysEmitImplicit: true };

function errorBody(error: ConnectError, tracedata: Tracedata, { bodyField }: Failure): JsonValue {
  const violations = error.findDetails(BadRequestSchema).flatMap(({ fieldViolations }) => fieldViolations);
  const validations = violations.map(({ field, description }) => ({
    field: field.startsWith(`${bodyField}.`) ? field.slice(`${bodyField}.`.length) : field,
    message: description,
  }));
  const body = toJson(
    ErrorSchema,
    create(ErrorSchema, { tracedata, message: error.rawMessage, validations }),
    spelling,
  );
  if (validations.length > 0) return body;
  const { validations: _none, ...rest } = body as JsonObject;
  return rest;
}

/** Unlike google.rpc's table, the contract has a state that forbids a change as a conflict, and HTTP has two sizes. */
function statusOf(error: ConnectError): number {
  if (error.code === Code.FailedPrecondition) return 409;
  if (error.code === Code.OutOfRange) return 416;
  if (error.findDetails(ErrorInfoSchema).some(({ reason }) => reason === tooLargeReason)) return 413;
  return httpStatusOf(error.code);
}
