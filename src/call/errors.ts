import { create } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { BadRequestSchema, type ErrorInfo, ErrorInfoSchema } from "#gen/google/rpc/error_details_pb.js";
import { boundViolations, type FieldViolation } from "./bounds.ts";

/** The reasons of errors that concern the call itself rather than a service. */
export type CallReason =
  | "BODY_TOO_SLOW"
  | "CALLER_GONE"
  | "DEADLINE_EXCEEDED"
  | "HTTP_METHOD_NOT_ALLOWED"
  | "HTTP_METHOD_UNKNOWN"
  | "HTTP_VERSION_NOT_SUPPORTED"
  | "INTERNAL"
  | "INVALID_REQUEST"
  | "MALFORMED_HTTP"
  | "MALFORMED_MESSAGE"
  | "NO_SUCH_PATH"
  | "PRECONDITION_FAILED"
  | "PROTOCOL_VIOLATION"
  | "TOO_LARGE"
  | "UNSUPPORTED_MEDIA_TYPE";

/**
 * Creates an error with a machine-readable reason. Its ErrorInfo has no domain: the application adds its own.
 * @param cause logged, never sent to the caller
 */
export function callError(reason: CallReason, code: Code, message: string, cause?: unknown): ConnectError {
  const detail = { desc: ErrorInfoSchema, value: create(ErrorInfoSchema, { reason }) };
  return new ConnectError(message, code, undefined, [detail], cause);
}

/** Creates an INVALID_ARGUMENT error that names the first broken rules and how many more there are. */
export function invalidRequest(violations: readonly FieldViolation[]): ConnectError {
  const { kept, omitted } = boundViolations(violations);
  const fieldViolations = [...kept, ...andMore(omitted).map((description) => ({ field: "", description }))];
  const error = callError("INVALID_REQUEST", Code.InvalidArgument, describeViolations(fieldViolations));
  error.details.push({ desc: BadRequestSchema, value: create(BadRequestSchema, { fieldViolations }) });
  return error;
}

/** Returns the message of an error: each rule, after the name of its field. */
export function describeViolations(violations: readonly FieldViolation[]): string {
  return violations
    .map(({ field, description }) => (field === "" ? description : `${field}: ${description}`))
    .join("; ");
}

function andMore(omitted: number): string[] {
  return omitted === 0 ? [] : [`and ${omitted} more`];
}

/** Finds the machine-readable reason of an error; undefined when it has none. */
export function findReason(error: ConnectError): string | undefined {
  for (const detail of error.details) {
    // findDetails copies the detail. Our own errors are read without a copy: refused quota decisions pass here.
    if ("desc" in detail && detail.desc === ErrorInfoSchema) return (detail.value as ErrorInfo).reason;
  }
  return error.findDetails(ErrorInfoSchema)[0]?.reason;
}
