import { expect, test } from "vitest";
import { judge } from "./judge.ts";

const steady = [100, 101, 99, 100, 102, 98, 100, 101];
const times = (factor: number, costs: readonly number[]) => costs.map((cost) => cost * factor);
/** A machine that becomes busy: the costs of both builds grow. */
const busy = [1, 1, 1, 1.5, 1.6, 1.5, 2, 1];
const together = (costs: readonly number[]) => costs.map((cost, round) => cost * (busy[round] ?? 1));

test.each([
  { what: "the same cost", ours: steady, release: steady, verdict: "as fast" },
  { what: "half of the cost", ours: times(0.5, steady), release: steady, verdict: "as fast" },
  { what: "9 % more", ours: times(1.09, steady), release: steady, verdict: "as fast" },
  { what: "12 % more", ours: times(1.12, steady), release: steady, verdict: "slower" },
  { what: "one slow round", ours: [300, ...steady.slice(1)], release: steady, verdict: "as fast" },
  {
    what: "12 % more in rounds that are slow for both",
    ours: together(times(1.12, steady)),
    release: together(steady),
    verdict: "slower",
  },
  { what: "rounds that are slow for one of them", ours: together(steady), release: steady, verdict: "unknown" },
  { what: "a round without a figure", ours: [Number.NaN, ...steady.slice(1)], release: steady, verdict: "unknown" },
  { what: "no round", ours: [], release: [], verdict: "unknown" },
])("$what is $verdict", ({ ours, release, verdict }) => {
  expect(judge({ ours, release })).toMatchObject({ verdict });
});
