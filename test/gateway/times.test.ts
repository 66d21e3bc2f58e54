import { expect, test } from "vitest";
import { durationPattern, normalizeDuration, toIsoDuration } from "../../src/gateway/json/times.ts";

test.each([
  ["PT20S", "20s", "PT20S"],
  ["PT0S", "0s", "PT0S"],
  ["PT1.5S", "1.5s", "PT1.5S"],
  ["PT90S", "90s", "PT1M30S"],
  ["PT1H", "3600s", "PT1H"],
  ["P1DT2H", "93600s", "PT26H"],
  ["P2W", "1209600s", "PT336H"],
  ["-PT0.000000001S", "-0.000000001s", "-PT0.000000001S"],
])("reads %s as %s and writes it as %s", (text, seconds, written) => {
  expect(normalizeDuration(text)).toBe(seconds);
  expect(toIsoDuration(seconds)).toBe(written);
  for (const each of [text, seconds, written]) expect(each).toMatch(new RegExp(durationPattern));
});

test.each(["P", "PT", "P1Y", "P1M", "1D", "PT1.S", "PT1.0000000001S", "P1DT", "5s30m", "90s ago", "", "PT1H1H"])(
  "%j is not a duration",
  (text) => {
    expect(normalizeDuration(text)).toBeUndefined();
    expect(text).not.toMatch(new RegExp(durationPattern));
  },
);
