import { Code, type ConnectError } from "@connectrpc/connect";
import { type CallReason, callError, invalidRequest } from "../call/errors.ts";

/** An error of HTTP itself, whose status is more specific than a gRPC code. */
export class HttpError extends Error {
  readonly status: number;
  readonly code: Code;
  readonly reason: HttpReason;
  /** Headers that the status needs, such as Allow. */
  readonly headers: Readonly<Record<string, string>>;

  constructor(reason: HttpReason, message: string, headers: Readonly<Record<string, string>> = {}) {
    super(message);
    this.reason = reason;
    [this.status, this.code] = failures[reason];
    this.headers = headers;
  }
}

export type HttpReason = keyof typeof failures;

/** The HTTP status and the matching gRPC code of each reason. */
const failures = {
  MALFORMED_HTTP: [400, Code.InvalidArgument],
  NO_SUCH_PATH: [404, Code.NotFound],
  HTTP_METHOD_NOT_ALLOWED: [405, Code.Unimplemented],
  BODY_TOO_SLOW: [408, Code.DeadlineExceeded],
  PRECONDITION_FAILED: [412, Code.FailedPrecondition],
  TOO_LARGE: [413, Code.ResourceExhausted],
  UNSUPPORTED_MEDIA_TYPE: [415, Code.InvalidArgument],
  HTTP_METHOD_UNKNOWN: [501, Code.Unimplemented],
  HTTP_VERSION_NOT_SUPPORTED: [505, Code.Unimplemented],
} as const satisfies Partial<Record<CallReason, readonly [status: number, code: Code]>>;

/** Converts the error for a handler that reads a stream. The cause keeps the HTTP status for the response. */
export function toCallError(error: HttpError): ConnectError {
  return callError(error.reason, error.code, error.message, error);
}

/** Returns an INVALID_ARGUMENT error with one broken rule. An empty `field` means the whole request. */
export function badField(field: string, description: string): ConnectError {
  return invalidRequest([{ field, description }]);
}
