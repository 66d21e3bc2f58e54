import type { Reason } from "../../shared/reasons.ts";
import type { Decision } from "./acquire.ts";

/** The decisions and ends of leases since the start. */
export interface DecisionCounts {
  readonly acquire: Verdicts;
  readonly check: Verdicts;
  /** Grants of this server alone, while Redis is unavailable. */
  degraded: number;
  readonly ends: {
    settled: number;
    /** Settled after the lease had expired or was released. */
    settledLate: number;
    released: number;
    forceReleased: number;
  };
}

export interface Verdicts {
  granted: number;
  readonly refused: Map<Reason, number>;
}

/** Creates the counts of decisions, all zero. */
export function createDecisionCounts(): DecisionCounts {
  return {
    acquire: { granted: 0, refused: new Map() },
    check: { granted: 0, refused: new Map() },
    degraded: 0,
    ends: { settled: 0, settledLate: 0, released: 0, forceReleased: 0 },
  };
}

/** Counts the decisions of one call, and returns them. */
export function countDecisions(counts: DecisionCounts, decisions: Decision[]): Decision[] {
  for (const decision of decisions) {
    if (!decision.granted) {
      // A request that failed was not decided.
      if ("refused" in decision) countRefusal(counts.acquire, decision.refused.reason);
      continue;
    }
    counts.acquire.granted += 1;
    if (decision.view.degraded === true) counts.degraded += 1;
  }
  return decisions;
}

/** Counts a refusal under its reason. */
export function countRefusal({ refused }: Verdicts, reason: Reason): void {
  refused.set(reason, (refused.get(reason) ?? 0) + 1);
}
