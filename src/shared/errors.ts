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

/** One broken rule: `field` is the path of the request's field as the proto spells it, `services[0].service`. */
export interface Violation {
  readonly field: string;
  readonly message: string;
}

/** The ErrorInfo of a reason of ours. */
export function errorInfo(reason: Reason, metadata: Record<string, string> = {}) {
  return { desc: ErrorInfoSchema, value: create(ErrorInfoSchema, { reason, domain, metadata }) };
}

const domain = "tollgate";

/** 400: the request breaks a rule. Names the fields and their rules. */
export function invalid(...violations: Violation[]): ConnectError {
  return invalidRequest(violations.map(({ field, message }) => ({ field, description: message })));
}

/** 404: no such resource, or one that the caller must not know of. */
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

/** 409: a resource of that key exists already. */
export function alreadyExists(resourceType: keyof typeof existing, resourceName: string): ConnectError {
  return ofResource(existing[resourceType], `${resourceType} exists already`, resourceType, resourceName);
}

const existing = {
  company: "COMPANY_EXISTS",
  user: "USER_EXISTS",
  data: "DATA_EXISTS",
} as const satisfies Readonly<Record<string, Reason>>;

/** An error of a reason that none of the functions below is for. */
export function refusal(reason: Reason, message: string): ConnectError {
  return new ConnectError(message, reasons[reason].code, undefined, [errorInfo(reason)]);
}

/** 409: the request is good, the state of things forbids it. */
export function conflict(reason: Reason, message: string): ConnectError {
  return refusal(reason, message);
}

/** 413: more bytes than are taken. */
export function tooLarge(message: string): ConnectError {
  return refusal("TOO_LARGE", message);
}

/** 504: it took longer than it may. */
export function tooSlow(message: string): ConnectError {
  return refusal("DEADLINE_EXCEEDED", message);
}

/** 416: no such part; `bytes` is how many there are. */
export function outOfRange(bytes: number): ConnectError {
  const error = refusal("RANGE_NOT_SATISFIABLE", `there is no such part: there are ${bytes} bytes`);
  error.metadata.set("content-range", `bytes */${bytes}`);
  return error;
}

/** 401: no token, or one that is not valid now. Says no more than that. */
export function unauthenticated(reason: Reason, message: string): ConnectError {
  const error = refusal(reason, message);
  error.metadata.set("www-authenticate", "Bearer");
  return error;
}

/** 403: the caller is known and may not do this. */
export function forbidden(reason: Reason, message: string): ConnectError {
  return refusal(reason, message);
}

/** 429: too many tries; says when the next one has a chance. */
export function tooMany(reason: Reason, message: string, retryAfterMs: number): ConnectError {
  return retryLater(reason, message, retryAfterMs);
}

/** 503: something that the service needs does not answer now. `cause` goes to the log, never to the caller. */
export function unavailable(reason: Reason, message: string, retryAfterMs: number, cause?: unknown): ConnectError {
  return retryLater(reason, message, retryAfterMs, cause);
}

/** 500: a fault of ours. The caller reads that and nothing else; `cause` goes to the log. */
export function internal(cause: unknown): ConnectError {
  return callError("INTERNAL", reasons.INTERNAL.code, "internal error", cause);
}

/** The same error with our domain, a reason where a library has made it, and a text that fits into the headers of an answer. */
export function complete(error: ConnectError): ConnectError {
  const own = findReason(error) === undefined ? fromLibrary(error) : error;
  const text = boundText(own.rawMessage);
  const complete = text === own.rawMessage ? own : withText(own, text);
  if (findReason(complete) === undefined) complete.details.push(errorInfo(reasonOfCode(complete.code)));
  for (const [index, detail] of complete.details.entries()) {
    if ("desc" in detail && detail.desc === ErrorInfoSchema) (detail.value as ErrorInfo).domain = domain;
    // Connect's own handler has written the error to bytes before the pipeline sees it.
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
