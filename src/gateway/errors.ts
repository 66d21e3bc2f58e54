import { Code, type ConnectError } from "@connectrpc/connect";
import { type CallReason, callError, invalidRequest } from "../call/errors.ts";

/** A failure of HTTP itself, whose status says more than a code of gRPC. */
export class HttpError extends Error {
  readonly status: number;
  readonly code: Code;
  readonly reason: HttpReason;
  /** Headers that belong to the status, such as Allow. */
  readonly headers: Readonly<Record<string, string>>;

  constructor(reason: HttpReason, message: string, headers: Readonly<Record<string, string>> = {}) {
    super(message);
    this.reason = reason;
    [this.status, this.code] = failures[reason];
    this.headers = headers;
  }
}

export type HttpReason = keyof typeof failures;

/** The status of HTTP, and the code that gRPC has for the same. */
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

/** The same for a handler that reads a stream. The status is kept for the answer, as the cause. */
export function toCallError(error: HttpError): ConnectError {
  return callError(error.reason, error.code, error.message, error);
}

export function badField(field: string, description: string): ConnectError {
  return invalidRequest([{ field, description }]);
}
