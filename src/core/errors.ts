import { create } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import {
  BadRequestSchema,
  ErrorInfoSchema,
  ResourceInfoSchema,
  RetryInfoSchema,
} from "#gen/google/rpc/error_details_pb.js";

/** One broken rule: `field` is the path of the request's field as the proto spells it, `services[0].service`. */
export interface Violation {
  readonly field: string;
  readonly message: string;
}

/** 400: the request breaks a rule. Names every field and its rule. */
export function invalid(...violations: Violation[]): ConnectError {
  const text = violations.map(({ field, message }) => (field === "" ? message : `${field}: ${message}`)).join("; ");
  const fieldViolations = violations.map(({ field, message }) => ({ field, description: message }));
  return new ConnectError(text, Code.InvalidArgument, undefined, [
    { desc: BadRequestSchema, value: create(BadRequestSchema, { fieldViolations }) },
  ]);
}

/** 404: no such resource, or one that the caller must not know of. */
export function notFound(resourceType: string, resourceName: string): ConnectError {
  return new ConnectError(`no such ${resourceType}: ${resourceName}`, Code.NotFound, undefined, [
    { desc: ResourceInfoSchema, value: create(ResourceInfoSchema, { resourceType, resourceName }) },
  ]);
}

/** 409: a resource of that key exists already. */
export function alreadyExists(resourceType: string, resourceName: string): ConnectError {
  return new ConnectError(`${resourceType} exists already: ${resourceName}`, Code.AlreadyExists, undefined, [
    { desc: ResourceInfoSchema, value: create(ResourceInfoSchema, { resourceType, resourceName }) },
  ]);
}

/** 409: the request is good, the state of things forbids it. `reason` is a constant for programs, UPPER_SNAKE_CASE. */
export function conflict(reason: string, message: string): ConnectError {
  return new ConnectError(message, Code.FailedPrecondition, undefined, [errorInfo(reason)]);
}

/** 413: more bytes than are taken. */
export function tooLarge(message: string): ConnectError {
  return new ConnectError(message, Code.ResourceExhausted, undefined, [errorInfo(tooLargeReason)]);
}

/** Tells it from the other limits of RESOURCE_EXHAUSTED. */
export const tooLargeReason = "TOO_LARGE";

/** 416: no such part; `bytes` is how many there are. */
export function outOfRange(bytes: number): ConnectError {
  return new ConnectError(`there is no such part: there are ${bytes} bytes`, Code.OutOfRange, {
    "content-range": `bytes */${bytes}`,
  });
}

/** 401: no token, or one that is not valid now. Says no more than that. */
export function unauthenticated(message: string): ConnectError {
  return new ConnectError(message, Code.Unauthenticated, { "www-authenticate": "Bearer" });
}

/** 403: the caller is known and may not do this. */
export function forbidden(message: string): ConnectError {
  return new ConnectError(message, Code.PermissionDenied);
}

/** 429: too many tries; says when the next one has a chance. */
export function tooMany(message: string, retryAfterMs: number): ConnectError {
  return retryLater(Code.ResourceExhausted, message, retryAfterMs);
}

/** 503: something that the service stands on does not answer now. `cause` goes to the log, never to the caller. */
export function unavailable(message: string, retryAfterMs: number, cause?: unknown): ConnectError {
  return retryLater(Code.Unavailable, message, retryAfterMs, cause);
}

/** 500: a fault of ours. The caller reads that and nothing else; `cause` goes to the log. */
export function internal(cause: unknown): ConnectError {
  return new ConnectError("internal error", Code.Internal, undefined, undefined, cause);
}

function retryLater(code: Code, message: string, retryAfterMs: number, cause?: unknown): ConnectError {
  const seconds = Math.floor(retryAfterMs / 1000);
  const retryDelay = { seconds: BigInt(seconds), nanos: Math.round((retryAfterMs - seconds * 1000) * 1e6) };
  const detail = { desc: RetryInfoSchema, value: create(RetryInfoSchema, { retryDelay }) };
  return new ConnectError(message, code, { "retry-after": String(Math.ceil(retryAfterMs / 1000)) }, [detail], cause);
}

function errorInfo(reason: string) {
  return { desc: ErrorInfoSchema, value: create(ErrorInfoSchema, { reason, domain: "tollgate" }) };
}
