import { median } from "./stand.ts";

/** Processor time per operation in each round, of this tree and of the release. The rounds alternated. */
export interface RoundCosts {
  readonly ours: readonly number[];
  readonly release: readonly number[];
}

export interface Judgement {
  /** "unknown": rounds of one build differ too much to compare builds. */
  readonly verdict: "as fast" | "slower" | "unknown";
  /** Our cost divided by the release's. */
  readonly ratio: number;
  /** How much rounds of one build differ: the middle half of them, as a share of the median. The larger one of both builds. */
  readonly spread: number;
}

/** Ten percent more processor time per operation is too much. */
export const maxRatio = 1.1;
/** With six rounds of this spread, two equal builds look ten percent different once in some hundred comparisons. */
export const maxSpread = 0.06;

/** Compares the costs of both builds. Compares each build with itself first: on a busy machine equal rounds differ. */
export function judge({ ours, release }: RoundCosts): Judgement {
  const ratio = median(ours) / median(release);
  const spread = Math.max(spreadOf(ours), spreadOf(release));
  if (!(spread <= maxSpread)) return { verdict: "unknown", ratio, spread };
  return { verdict: ratio > maxRatio ? "slower" : "as fast", ratio, spread };
}

function spreadOf(costs: readonly number[]): number {
  const sorted = costs.toSorted((left, right) => left - right);
  const at = (share: number) => sorted[Math.round((sorted.length - 1) * share)] ?? Number.NaN;
  return (at(0.75) - at(0.25)) / median(costs);
}
