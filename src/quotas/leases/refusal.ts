import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { ConnectError } from "@connectrpc/connect";
import { QuotaFailureSchema, RetryInfoSchema } from "#gen/google/rpc/error_details_pb.js";
import type { RefusalSchema } from "#gen/tollgate/v1/lease_pb.js";
import { Method_Group, Service_Name } from "#gen/tollgate/v1/tracedata_pb.js";
import { findReason } from "../../call/errors.ts";
import { encodeStatus } from "../../grpc/trailers.ts";
import { errorInfo } from "../../shared/errors.ts";
import { type Reason, reasons } from "../../shared/reasons.ts";
import type { LimitName, MeterState } from "../counters/engine.ts";
import { type LimitView, limitNames, limitsOf } from "./limit-messages.ts";
import { rateLimitHeaders } from "./rate-limit.ts";

/** The request that a refusal is about. */
export interface RefusedRequest {
  readonly username: string;
  readonly service: Service_Name;
  readonly methodGroup: Method_Group;
  readonly points: number;
}

/** A refusal. It becomes an error in a unary call, and a message in a batch or stream. */
export interface RefusedQuota {
  readonly reason: Reason;
  readonly message: string;
  readonly violated: readonly LimitView[];
  /** Undefined when waiting does not help. */
  readonly retryDelayMs: number | undefined;
  readonly headers: Readonly<Record<string, string>>;
}

/** Refuses a request whose user does not exist. */
export function refuseUnknownUser({ username }: RefusedRequest): RefusedQuota {
  return refuseWithoutLimits("USER_NOT_FOUND", `no such user: ${username}`);
}

/** Refuses an operation that was settled: it has run and is charged. */
export function refuseSettledOperation(operationId: string): RefusedQuota {
  return refuseWithoutLimits("OPERATION_SETTLED", `the operation is settled: ${operationId}`);
}

/** Refuses an operation that runs with other points. */
export function refuseOtherPoints({ points }: RefusedRequest, before: number): RefusedQuota {
  return refuseWithoutLimits("OPERATION_POINTS_DIFFER", `the operation runs with ${before} points, not ${points}`);
}

/** Refuses a disabled user. */
export function refuseDisabledUser({ username }: RefusedRequest): RefusedQuota {
  return refuseWithoutLimits("USER_DISABLED", `the user is disabled: ${username}`);
}

/** Refuses a user without a quota for the service and method group. */
export function refuseWithoutQuota({ username, service, methodGroup }: RefusedRequest): RefusedQuota {
  const method = `${Service_Name[service]} ${Method_Group[methodGroup]}`;
  return refuseWithoutLimits("NO_QUOTA", `${username} has no quota for ${method}`);
}

/**
 * Makes the refusal for the violated limits. Without any, the user has no quota.
 * @param jitter returns 0..1; spreads the retries of callers that wait for the same slot
 */
export function refusalOf(
  request: RefusedRequest,
  meterState: MeterState,
  names: readonly LimitName[],
  jitter: () => number,
): RefusedQuota {
  const violated = limitsOf(meterState).filter(({ name }) => names.includes(name));
  const [first] = violated;
  if (first === undefined) return refuseWithoutQuota(request);
  const message = violated.map((view) => textOf(view, request)).join("; ");
  const headers = rateLimitHeaders(meterState);
  // Waiting does not make the request smaller, so there is no retry delay.
  const reason = limitReasons[first.name];
  if (first.name === "pointsPerRequest") return { reason, message, violated, retryDelayMs: undefined, headers };
  const retryDelayMs = retryDelayOf(violated, request, meterState, jitter);
  return { reason, message, violated, retryDelayMs, headers };
}

/** Makes the error of a unary call: reason, violated limits, retry delay and rate limit headers. */
export function toRefusalError(refused: RefusedQuota, request: RefusedRequest): ConnectError {
  const { reason, message, violated, retryDelayMs, headers } = refused;
  const metadata = {
    username: request.username,
    service: Service_Name[request.service],
    method_group: Method_Group[request.methodGroup],
  };
  const error = new ConnectError(message, reasons[reason].code, headers, [errorInfo(reason, metadata)]);
  if (violated.length > 0) {
    const violations = violated.map((view) => ({
      subject: `user:${request.username}`,
      description: textOf(view, request),
    }));
    error.details.push({ desc: QuotaFailureSchema, value: create(QuotaFailureSchema, { violations }) });
  }
  if (retryDelayMs !== undefined) {
    const retryDelay = durationFromMs(retryDelayMs);
    error.details.push({ desc: RetryInfoSchema, value: create(RetryInfoSchema, { retryDelay }) });
    error.metadata.set("retry-after", String(Math.ceil(retryDelayMs / 1000)));
  }
  return error;
}

/**
 * Makes the message of an error inside a batch or stream.
 * @param error the public error of the unary call
 */
export function toRefusal(
  error: ConnectError,
  violated: readonly LimitView[] = [],
): MessageInitShape<typeof RefusalSchema> {
  const [retry] = error.findDetails(RetryInfoSchema);
  return {
    code: error.code,
    reason: findReason(error) ?? "",
    message: error.rawMessage,
    violations: violated.map(({ name }) => limitNames[name]),
    ...(retry?.retryDelay !== undefined && { retryDelay: retry.retryDelay }),
    status: encodeStatus(error),
  };
}

const limitReasons: Readonly<Record<LimitName, Reason>> = {
  pointsPerRequest: "REQUEST_POINTS_EXCEEDED",
  pointsPerDay: "DAILY_POINTS_EXCEEDED",
  pointsPerDateWindow: "DATE_WINDOW_POINTS_EXCEEDED",
  maxConcurrentExecution: "CONCURRENCY_LIMIT_EXCEEDED",
};

const limitsByReason = new Map(Object.entries(limitReasons).map(([name, reason]) => [reason, name as LimitName]));

/** Returns the field of the limit that a refusal with this reason names first. Undefined if no limit refused. */
export function limitFieldOf(reason: Reason): string | undefined {
  const name = limitsByReason.get(reason);
  return name && fields[name];
}

const fields: Readonly<Record<LimitName, string>> = {
  pointsPerRequest: "points_per_request",
  pointsPerDay: "points_per_day",
  pointsPerDateWindow: "points_per_date_window",
  maxConcurrentExecution: "max_concurrent_execution",
};

/** The range of the retry delay for a slot, which may become free at any moment. */
const slotWaitMs = { least: 500, most: 2000 };

/** The time until the last violated limit resets. Undefined when a limit is too small for the request at any time. */
function retryDelayOf(
  violated: readonly LimitView[],
  { points }: RefusedRequest,
  { nowMs }: MeterState,
  jitter: () => number,
): number | undefined {
  const delays = violated.map(({ name, limit = 0, resetMs }) => {
    if (name === "maxConcurrentExecution") {
      return limit === 0
        ? Number.POSITIVE_INFINITY
        : slotWaitMs.least + jitter() * (slotWaitMs.most - slotWaitMs.least);
    }
    return points > limit || limit === 0 || resetMs === undefined ? Number.POSITIVE_INFINITY : resetMs - nowMs;
  });
  const latest = Math.ceil(Math.max(...delays));
  return Number.isFinite(latest) ? latest : undefined;
}

function textOf({ name, limit = 0, remaining = 0, reserved }: LimitView, { points }: RefusedRequest): string {
  switch (name) {
    case "pointsPerRequest":
      return `${fields[name]}: ${points} points requested, ${limit} allowed`;
    case "maxConcurrentExecution":
      return `${fields[name]}: ${reserved} of ${limit} running`;
    default:
      return `${fields[name]}: ${points} points requested, ${Math.max(0, remaining)} of ${limit} remain`;
  }
}

function refuseWithoutLimits(reason: Reason, message: string): RefusedQuota {
  return { reason, message, violated: [], retryDelayMs: undefined, headers: {} };
}
