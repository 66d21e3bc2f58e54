import { create, fromBinary } from "@bufbuild/protobuf";
import { ConnectError } from "@connectrpc/connect";
import {
  type ErrorInfo,
  ErrorInfoSchema,
  ResourceInfoSchema,
  RetryInfoSchema,
} from "#gen/google/rpc/error_details_pb.js";
import { boundText, maxNameBytes } from "../call/bounds.ts";
import { callError, findReason, invalidRequest } from "../call/errors.ts";
import { fromLibrary } from "../call/library-errors.ts";
import { type Reason, reasonOfCode, reasons } from "./reasons.ts";

/** A broken rule. `field` is the path of the request's field, as the .proto spells it: `services[0].service`. */
export interface Violation {
  readonly field: string;
  readonly message: string;
}

/** Creates the ErrorInfo detail of a reason. */
export function errorInfo(reason: Reason, metadata: Record<string, string> = {}) {
  return { desc: ErrorInfoSchema, value: create(ErrorInfoSchema, { reason, domain, metadata }) };
}

const domain = "tollgate";

/** 400: the request breaks rules. The error names each field and its rule. */
export function invalid(...violations: Violation[]): ConnectError {
  return invalidRequest(violations.map(({ field, message }) => ({ field, description: message })));
}

/** 404: the resource does not exist, or the caller may not see it. */
export function notFound(resourceType: keyof typeof missing, resourceName: string): ConnectError {
  return ofResource(missing[resourceType], `no such ${resourceType}`, resourceType, resourceName);
}

const missing = {
  company: "COMPANY_NOT_FOUND",
  user: "USER_NOT_FOUND",
  "quota of the period": "QUOTA_NOT_FOUND",
  lease: "LEASE_NOT_FOUND",
  data: "DATA_NOT_FOUND",
  file: "FILE_NOT_FOUND",
} as const satisfies Readonly<Record<string, Reason>>;

/** 409: a resource with this key already exists. */
export function alreadyExists(resourceType: keyof typeof existing, resourceName: string): ConnectError {
  return ofResource(existing[resourceType], `${resourceType} already exists`, resourceType, resourceName);
}

const existing = {
  company: "COMPANY_EXISTS",
  user: "USER_EXISTS",
  data: "DATA_EXISTS",
} as const satisfies Readonly<Record<string, Reason>>;

/** Creates an error for a reason that has no function of its own below. */
export function refusal(reason: Reason, message: string): ConnectError {
  return new ConnectError(message, reasons[reason].code, undefined, [errorInfo(reason)]);
}

/** 409: the request is valid, but the state of the resource forbids it. */
export function conflict(reason: Reason, message: string): ConnectError {
  return refusal(reason, message);
}

/** 413: the body exceeds a limit. */
export function tooLarge(message: string): ConnectError {
  return refusal("TOO_LARGE", message);
}

/** 504: the call exceeded its deadline. */
export function tooSlow(message: string): ConnectError {
  return refusal("DEADLINE_EXCEEDED", message);
}

/** 416: the requested range is beyond the end. `bytes` is the total length. */
export function outOfRange(bytes: number): ConnectError {
  const error = refusal("RANGE_NOT_SATISFIABLE", `the range must be within the ${bytes} bytes of the data`);
  error.metadata.set("content-range", `bytes */${bytes}`);
  return error;
}

/** 401: the token is missing or not valid. The error does not say why. */
export function unauthenticated(reason: Reason, message: string): ConnectError {
  const error = refusal(reason, message);
  error.metadata.set("www-authenticate", "Bearer");
  return error;
}

/** 403: the caller is authenticated but not authorized. */
export function forbidden(reason: Reason, message: string): ConnectError {
  return refusal(reason, message);
}

/** 429: too many attempts. `retryAfterMs` goes into Retry-After and RetryInfo. */
export function tooMany(reason: Reason, message: string, retryAfterMs: number): ConnectError {
  return retryLater(reason, message, retryAfterMs);
}

/** 503: a dependency does not respond, or a limit on concurrent work is reached. `cause` is logged, never sent. */
export function unavailable(reason: Reason, message: string, retryAfterMs: number, cause?: unknown): ConnectError {
  return retryLater(reason, message, retryAfterMs, cause);
}

/** 500: a fault of the service. The caller sees only "internal error"; `cause` is logged. */
export function internal(cause: unknown): ConnectError {
  return callError("INTERNAL", reasons.INTERNAL.code, "internal error", cause);
}

/** Adds our domain, a reason if a library created the error, and bounds the text so that it fits into response headers. */
export function complete(error: ConnectError): ConnectError {
  const own = findReason(error) === undefined ? fromLibrary(error) : error;
  const text = boundText(own.rawMessage);
  const complete = text === own.rawMessage ? own : withText(own, text);
  if (findReason(complete) === undefined) complete.details.push(errorInfo(reasonOfCode(complete.code)));
  for (const [index, detail] of complete.details.entries()) {
    if ("desc" in detail && detail.desc === ErrorInfoSchema) (detail.value as ErrorInfo).domain = domain;
    // Connect's handler serializes the detail before the pipeline sees it.
    else if ("type" in detail && detail.type === ErrorInfoSchema.typeName) {
      complete.details[index] = {
        desc: ErrorInfoSchema,
        value: { ...fromBinary(ErrorInfoSchema, detail.value), domain },
      };
    }
  }
  return complete;
}

function retryLater(reason: Reason, message: string, retryAfterMs: number, cause?: unknown): ConnectError {
  const seconds = Math.floor(retryAfterMs / 1000);
  const retryDelay = { seconds: BigInt(seconds), nanos: Math.round((retryAfterMs - seconds * 1000) * 1e6) };
  const details = [errorInfo(reason), { desc: RetryInfoSchema, value: create(RetryInfoSchema, { retryDelay }) }];
  const metadata = { "retry-after": String(Math.ceil(retryAfterMs / 1000)) };
  return new ConnectError(message, reasons[reason].code, metadata, details, cause);
}

function withText(error: ConnectError, text: string): ConnectError {
  const shorter = new ConnectError(text, error.code, error.metadata, undefined, error.cause);
  shorter.details.push(...error.details);
  return shorter;
}

function ofResource(reason: Reason, text: string, resourceType: string, name: string): ConnectError {
  const resourceName = boundText(name, maxNameBytes);
  return new ConnectError(`${text}: ${resourceName}`, reasons[reason].code, undefined, [
    errorInfo(reason),
    { desc: ResourceInfoSchema, value: create(ResourceInfoSchema, { resourceType, resourceName }) },
  ]);
}
