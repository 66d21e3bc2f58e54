import { type LimitStanding, LimitStanding_Name } from "#gen/tollgate/v1/lease_pb.js";
import { toTimestamp } from "../../shared/calendar.ts";
import type { LimitName, MeterState } from "../counters/engine.ts";

/** The state of one limit, for messages and headers. */
export interface LimitView {
  readonly name: LimitName;
  readonly limit: number | undefined;
  readonly used: number;
  readonly reserved: number;
  /** Undefined when there is no limit. */
  readonly remaining: number | undefined;
  /** When `used` restarts at zero, in milliseconds since the epoch. Undefined when it never does. */
  readonly resetMs: number | undefined;
}

/** Lists every limit. The first violated one names the reason of a refusal, so the request's own size comes first. */
export function limitsOf(meterState: MeterState): LimitView[] {
  const { limits = {}, dayUsed, dayReserved, windowUsed, windowReserved, running } = meterState;
  const { pointsPerRequest, pointsPerDay, pointsPerDateWindow, maxConcurrentExecution } = limits;
  return [
    view("pointsPerRequest", pointsPerRequest, 0, 0, undefined),
    view("pointsPerDay", pointsPerDay, dayUsed, dayReserved, meterState.dayEndMs),
    view("pointsPerDateWindow", pointsPerDateWindow, windowUsed, windowReserved, meterState.windowEndMs),
    view("maxConcurrentExecution", maxConcurrentExecution, 0, running, undefined),
  ];
}

/** Converts the state of a meter to the messages of its limits. They are whole messages, which create() leaves as they are. */
export function toLimitMessages(meterState: MeterState): LimitStanding[] {
  return limitsOf(meterState).map(({ name, limit, used, reserved, remaining, resetMs }) => ({
    $typeName: "tollgate.v1.LimitStanding",
    name: limitNames[name],
    limit,
    used,
    reserved,
    remaining,
    resetTime: resetMs === undefined ? undefined : toTimestamp(resetMs * 1000),
  }));
}

export const limitNames: Readonly<Record<LimitName, LimitStanding_Name>> = {
  pointsPerRequest: LimitStanding_Name.POINTS_PER_REQUEST,
  pointsPerDay: LimitStanding_Name.POINTS_PER_DAY,
  pointsPerDateWindow: LimitStanding_Name.POINTS_PER_DATE_WINDOW,
  maxConcurrentExecution: LimitStanding_Name.MAX_CONCURRENT_EXECUTION,
};

function view(
  name: LimitName,
  limit: number | undefined,
  used: number,
  reserved: number,
  resetMs: number | undefined,
): LimitView {
  return { name, limit, used, reserved, remaining: limit === undefined ? undefined : limit - used - reserved, resetMs };
}
