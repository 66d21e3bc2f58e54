import { median, quantile } from "./fixture.ts";

/** Processor time per operation in each round, of this tree and of the release. Round by round they ran one after the other. */
export interface RoundCosts {
  readonly ours: readonly number[];
  readonly release: readonly number[];
}

export interface Judgement {
  /** "unknown": equal rounds differ too much to compare the builds. */
  readonly verdict: "as fast" | "slower" | "unknown";
  /** Our cost divided by the release's: the median of the rounds. */
  readonly ratio: number;
  /** How far the ratio may be off, by the differences among the rounds. */
  readonly uncertainty: number;
}

/** Ten percent more processor time per operation is too much. */
export const maxRatio = 1.1;
export const maxUncertainty = 0.05;

/**
 * Compares the costs round by round: what else the machine does changes over seconds, and reaches both of a round. Judges only
 * when the rounds agree with each other.
 */
export function judge({ ours, release }: RoundCosts): Judgement {
  const ratios = ours.map((cost, round) => cost / (release[round] ?? Number.NaN));
  const ratio = median(ratios);
  // The 95 % interval of a median (McGill, Tukey and Larsen 1978).
  const uncertainty = (1.57 * (quantile(ratios, 0.75) - quantile(ratios, 0.25))) / Math.sqrt(ratios.length);
  if (ratios.some(Number.isNaN) || !(uncertainty <= maxUncertainty)) return { verdict: "unknown", ratio, uncertainty };
  return { verdict: ratio > maxRatio ? "slower" : "as fast", ratio, uncertainty };
}
