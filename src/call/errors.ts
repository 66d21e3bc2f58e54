import { create } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { BadRequestSchema, type ErrorInfo, ErrorInfoSchema } from "#gen/google/rpc/error_details_pb.js";
import { boundViolations, type FieldViolation } from "./bounds.ts";

/** The reasons of errors that concern the call itself, whatever service it is for. */
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
 * An error with a reason for programs. Its ErrorInfo has no domain: the service that uses this code adds its own.
 * @param cause for the log, never for the caller
 */
export function callError(reason: CallReason, code: Code, message: string, cause?: unknown): ConnectError {
  const detail = { desc: ErrorInfoSchema, value: create(ErrorInfoSchema, { reason }) };
  return new ConnectError(message, code, undefined, [detail], cause);
}

/** INVALID_ARGUMENT that names fields and their rules: the first ones, and how many more there are. */
export function invalidRequest(violations: readonly FieldViolation[]): ConnectError {
  const { kept, left } = boundViolations(violations);
  const texts = kept.map(({ field, description }) => (field === "" ? description : `${field}: ${description}`));
  const error = callError("INVALID_REQUEST", Code.InvalidArgument, [...texts, ...andMore(left)].join("; "));
  const fieldViolations = [...kept, ...andMore(left).map((description) => ({ field: "", description }))];
  error.details.push({ desc: BadRequestSchema, value: create(BadRequestSchema, { fieldViolations }) });
  return error;
}

function andMore(left: number): string[] {
  return left === 0 ? [] : [`and ${left} more`];
}

/** The reason of an error for the caller; undefined where it has none. */
export function findReason(error: ConnectError): string | undefined {
  for (const detail of error.details) {
    // Our own errors: no copy of the detail is made, since refused quotas pass here.
    if ("desc" in detail && detail.desc === ErrorInfoSchema) return (detail.value as ErrorInfo).reason;
  }
  return error.findDetails(ErrorInfoSchema)[0]?.reason;
}
