/** Counts the comparisons of each check, and collects the failures. */
export interface Verdicts {
  /** Counts one comparison. `failure` describes it when it does not hold. */
  expect(check: string, holds: boolean, failure: () => string): void;
  /** Returns one line for each check, sorted by name. */
  lines(): string[];
  /** Returns the first failures of each check, prefixed with the name of the check. */
  failures(): string[];
}

const mostShown = 5;

export function createVerdicts(): Verdicts {
  const checks = new Map<string, { count: number; failed: number; shown: string[] }>();
  const sorted = () => [...checks].toSorted(([left], [right]) => (left < right ? -1 : 1));
  return {
    expect(check, holds, failure) {
      const known = checks.get(check) ?? { count: 0, failed: 0, shown: [] };
      checks.set(check, known);
      known.count += 1;
      if (holds) return;
      known.failed += 1;
      if (known.shown.length < mostShown) known.shown.push(failure());
    },
    lines: () =>
      sorted().map(
        ([check, { count, failed }]) => `${failed === 0 ? "ok " : "RED"} ${check}: ${count} compared, ${failed} wrong`,
      ),
    failures: () =>
      sorted().flatMap(([check, { failed, shown }]) => shown.map((text) => `${check} (${failed} wrong): ${text}`)),
  };
}
