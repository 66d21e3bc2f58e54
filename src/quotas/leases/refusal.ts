import { create } from "@bufbuild/protobuf";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { ConnectError } from "@connectrpc/connect";
import { QuotaFailureSchema, RetryInfoSchema } from "#gen/google/rpc/error_details_pb.js";
import { Method_Group, Service_Name } from "#gen/tollgate/v1/tracedata_pb.js";
import { errorInfo } from "../../shared/errors.ts";
import { type Reason, reasons } from "../../shared/reasons.ts";
import type { LimitName, MeterState } from "../counters/engine.ts";
import { type LimitView, limitsOf } from "./limit-messages.ts";
import { rateLimitHeaders } from "./rate-limit.ts";

/** What was asked for in vain. */
export interface RefusedRequest {
  readonly username: string;
  readonly service: Service_Name;
  readonly methodGroup: Method_Group;
  readonly points: number;
}

/** A refusal before it is an error or a message of a batch. */
export interface RefusedQuota {
  readonly reason: Reason;
  readonly message: string;
  readonly violated: readonly LimitView[];
  /** Undefined where waiting cannot help. */
  readonly retryDelayMs: number | undefined;
  readonly headers: Readonly<Record<string, string>>;
}

export function refuseUnknownUser({ username }: RefusedRequest): RefusedQuota {
  return plain("USER_NOT_FOUND", `no such user: ${username}`);
}

/** The operation has been settled: it has run and is charged. */
export function refuseSettledOperation(operationId: string): RefusedQuota {
  return plain("OPERATION_SETTLED", `the operation is settled: ${operationId}`);
}

/** The operation runs with other points. */
export function refuseOtherPoints({ points }: RefusedRequest, before: number): RefusedQuota {
  return plain("OPERATION_POINTS_DIFFER", `the operation runs with ${before} points, not ${points}`);
}

/** The user may not calculate at all. */
export function refuseDisabledUser({ username }: RefusedRequest): RefusedQuota {
  return plain("USER_DISABLED", `the user is disabled: ${username}`);
}

/** There is no quota for the service and method group. */
export function refuseWithoutQuota({ username, service, methodGroup }: RefusedRequest): RefusedQuota {
  const method = `${Service_Name[service]} ${Method_Group[methodGroup]}`;
  return plain("NO_QUOTA", `${username} has no quota for ${method}`);
}

/**
 * Limits that stand in the way, or no quota at all.
 * @param jitter 0..1: callers who wait for the same slot do not come back together
 */
export function refusalOf(
  asked: RefusedRequest,
  meterState: MeterState,
  names: readonly LimitName[],
  jitter: () => number,
): RefusedQuota {
  const violated = limitsOf(meterState).filter(({ name }) => names.includes(name));
  const [first] = violated;
  if (first === undefined) return refuseWithoutQuota(asked);
  const message = violated.map((view) => textOf(view, asked)).join("; ");
  const headers = rateLimitHeaders(meterState);
  // Waiting makes no request smaller: this is no matter of rate.
  const reason = limitReasons[first.name];
  if (first.name === "pointsPerRequest") return { reason, message, violated, retryDelayMs: undefined, headers };
  const retryDelayMs = retryDelayOf(violated, asked, meterState, jitter);
  return { reason, message, violated, retryDelayMs, headers };
}

/** The error that gRPC and HTTP callers cannot overlook. */
export function toRefusalError(refused: RefusedQuota, asked: RefusedRequest): ConnectError {
  const { reason, message, violated, retryDelayMs, headers } = refused;
  const metadata = {
    username: asked.username,
    service: Service_Name[asked.service],
    method_group: Method_Group[asked.methodGroup],
  };
  const error = new ConnectError(message, reasons[reason].code, headers, [errorInfo(reason, metadata)]);
  if (violated.length > 0) {
    const violations = violated.map((view) => ({
      subject: `user:${asked.username}`,
      description: textOf(view, asked),
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

const limitReasons: Readonly<Record<LimitName, Reason>> = {
  pointsPerRequest: "REQUEST_POINTS_EXCEEDED",
  pointsPerDay: "DAILY_POINTS_EXCEEDED",
  pointsPerDateWindow: "DATE_WINDOW_POINTS_EXCEEDED",
  maxConcurrentExecution: "CONCURRENCY_LIMIT_EXCEEDED",
};

const fields: Readonly<Record<LimitName, string>> = {
  pointsPerRequest: "points_per_request",
  pointsPerDay: "points_per_day",
  pointsPerDateWindow: "points_per_date_window",
  maxConcurrentExecution: "max_concurrent_execution",
};

/** The least and the most that a caller waits for a slot; it may be free any moment. */
const slotWaitMs = { least: 500, most: 2000 };

/** The latest reset of the violated limits; undefined where one of them is too small for this request at all times. */
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
      return `${fields[name]}: ${points} points asked, ${limit} allowed`;
    case "maxConcurrentExecution":
      return `${fields[name]}: ${reserved} of ${limit} running`;
    default:
      return `${fields[name]}: ${points} points asked, ${Math.max(0, remaining)} of ${limit} remain`;
  }
}

function plain(reason: Reason, message: string): RefusedQuota {
  return { reason, message, violated: [], retryDelayMs: undefined, headers: {} };
}
