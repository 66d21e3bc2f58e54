import { expect, test } from "vitest";
import { judge } from "./judge.ts";

const steady = [100, 101, 99, 100, 102, 98];
const times = (factor: number, costs: readonly number[]) => costs.map((cost) => cost * factor);

test.each([
  { what: "the same cost", ours: steady, verdict: "as fast" },
  { what: "half of the cost", ours: times(0.5, steady), verdict: "as fast" },
  { what: "9 % more", ours: times(1.09, steady), verdict: "as fast" },
  { what: "12 % more", ours: times(1.12, steady), verdict: "slower" },
  { what: "one slow round", ours: [100, 101, 99, 100, 102, 300], verdict: "as fast" },
  { what: "rounds that differ among themselves", ours: [100, 130, 99, 140, 102, 120], verdict: "unknown" },
  { what: "a round without a figure", ours: [100, Number.NaN, 99, Number.NaN, Number.NaN, 98], verdict: "unknown" },
])("$what is $verdict", ({ ours, verdict }) => {
  expect(judge({ ours, release: steady })).toMatchObject({ verdict });
});

test("a release whose rounds differ makes the comparison unknown too", () => {
  expect(judge({ ours: steady, release: [100, 130, 99, 140, 102, 120] })).toMatchObject({ verdict: "unknown" });
});
