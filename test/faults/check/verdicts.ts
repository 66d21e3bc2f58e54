/** What was checked, how often, and where it does not hold. */
export interface Verdicts {
  /** Counts one comparison; `failure` says what is wrong when it does not hold. */
  expect(check: string, holds: boolean, failure: () => string): void;
  /** One line for each check, in the order of their names. */
  lines(): string[];
  /** The first failures of each check, each with the name of the check in front. */
  failures(): string[];
}

const mostShown = 5;

export function createVerdicts(): Verdicts {
  const checks = new Map<string, { count: number; failed: number; shown: string[] }>();
  const sorted = () => [...checks].toSorted(([one], [other]) => (one < other ? -1 : 1));
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
