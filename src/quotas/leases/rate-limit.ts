import { dayMs } from "../../shared/calendar.ts";
import type { LimitName, MeterState } from "../counters/engine.ts";
import { limitsOf } from "./limit-messages.ts";

/**
 * Makes the header fields of draft-ietf-httpapi-ratelimit-headers-10. RateLimit-Policy holds the quota (q) of each limit
 * and its window in seconds (w). RateLimit holds what remains (r) and the seconds until the reset (t), both 0 or more.
 */
export function rateLimitHeaders(meterState: MeterState): Readonly<Record<string, string>> {
  const policies: string[] = [];
  const states: string[] = [];
  for (const { name, limit, remaining = 0, resetMs } of limitsOf(meterState)) {
    if (limit === undefined || name === "pointsPerRequest") continue;
    const policy = `"${policyNames[name]}";q=${limit}`;
    policies.push(resetMs === undefined ? policy : `${policy};w=${windowSeconds(name, meterState)}`);
    const state = `"${policyNames[name]}";r=${Math.max(0, remaining)}`;
    states.push(resetMs === undefined ? state : `${state};t=${Math.ceil((resetMs - meterState.nowMs) / 1000)}`);
  }
  return policies.length === 0 ? {} : { "ratelimit-policy": policies.join(", "), ratelimit: states.join(", ") };
}

const policyNames: Readonly<Record<LimitName, string>> = {
  pointsPerRequest: "request",
  pointsPerDay: "day",
  pointsPerDateWindow: "window",
  maxConcurrentExecution: "concurrency",
};

function windowSeconds(name: LimitName, { window }: MeterState): number {
  return ((name === "pointsPerDay" ? 1 : window.to - window.from) * dayMs) / 1000;
}
