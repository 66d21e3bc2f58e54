/** A sum that changes at points in time. */
export interface Steps {
  /** Returns the sum after all changes up to and including this time. */
  at(time: number): number;
  /** Returns the least and the greatest sum from a time (its own changes included) to before another time. */
  least(from: number, to: number): number;
  most(from: number, to: number): number;
}

export interface Step {
  readonly at: number;
  readonly by: number;
}

export function createSteps(steps: readonly Step[]): Steps {
  const sorted = steps.filter(({ at }) => Number.isFinite(at)).toSorted((left, right) => left.at - right.at);
  const times = sorted.map(({ at }) => at);
  let sum = 0;
  const sums = sorted.map(({ by }) => (sum += by));
  const sumAt = (place: number) => (place < 0 ? 0 : (sums[place] as number));

  /** Returns the index of the last change up to this time, or -1. */
  function placeOf(time: number): number {
    let [low, high] = [0, times.length];
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((times[middle] as number) <= time) low = middle + 1;
      else high = middle;
    }
    return low - 1;
  }

  function fold(from: number, to: number, better: (left: number, right: number) => number): number {
    const first = placeOf(from);
    let result = sumAt(first);
    for (let place = first + 1; place < times.length && (times[place] as number) < to; place += 1) {
      // Changes at the same time count as one change.
      if (times[place + 1] !== times[place]) result = better(result, sumAt(place));
    }
    return result;
  }

  return {
    at: (time) => sumAt(placeOf(time)),
    least: (from, to) => fold(from, to, Math.min),
    most: (from, to) => fold(from, to, Math.max),
  };
}
