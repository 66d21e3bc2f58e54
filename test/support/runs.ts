/**
 * The number of runs of a property: the given one in `npm test`, and RUNS_FACTOR times as many in `npm run test:slow`.
 */
export function runs(short: number): number {
  return short * Number(process.env["RUNS_FACTOR"] ?? 1);
}
