/** Times in milliseconds. */
export interface Backoff {
  /** The delay after the first failed attempt. It doubles with each attempt, up to `mostMs`. */
  readonly firstMs: number;
  readonly mostMs: number;
}

/**
 * Returns the delay after a failed attempt, in milliseconds: at random between half of the backoff and all of it, so that
 * attempts of several servers spread.
 * @param failures the failed attempts before this one
 * @param random returns 0 until before 1
 */
export function delayAfter({ firstMs, mostMs }: Backoff, failures: number, random: () => number): number {
  return Math.min(firstMs * 2 ** failures, mostMs) * (0.5 + random() / 2);
}
