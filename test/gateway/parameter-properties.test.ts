import fc from "fast-check";
import { afterAll, beforeAll, expect, test } from "vitest";
import { runs } from "../support/runs.ts";
import { type FixtureServer, startFixture } from "./fixture.ts";

let server: FixtureServer;
beforeAll(async () => {
  server = await startFixture();
});
afterAll(() => server.stop());

/** A value as text in a URL, and as JSON in the response. */
interface Sample {
  readonly text: string;
  readonly json: unknown;
}

interface ScalarCase {
  /** The segment of the path for this type; empty: the type cannot be in a path. */
  readonly type: string;
  readonly field: string;
  readonly samples: fc.Arbitrary<Sample>;
  /** Whether the response may write the text as this value. */
  readonly isValue: (text: string, value: string) => boolean;
}

const decimal = (value: number): Sample => ({
  text: String(value),
  // JSON has no negative zero and no NaN.
  json: Number.isFinite(value) ? value + 0 : String(value),
});
const integers = (min: bigint, max: bigint) =>
  fc.oneof(fc.bigInt({ min, max }), fc.constantFrom(min, max, 0n, 2n ** 31n - 1n)).map((value): Sample => {
    const isSafe = value >= -(2n ** 53n) + 1n && value <= 2n ** 53n - 1n;
    return { text: String(value), json: isSafe ? Number(value) : String(value) };
  });
const signed = (bits: bigint) => integers(-(2n ** (bits - 1n)), 2n ** (bits - 1n) - 1n);
const unsigned = (bits: bigint) => integers(0n, 2n ** bits - 1n);
const texts = fc.string({ unit: "binary" }).map((text): Sample => ({ text, json: text }));
const bytes = fc.tuple(fc.uint8Array(), fc.constantFrom("base64", "base64url")).map(([array, encoding]): Sample => {
  const buffer = Buffer.from(array);
  return { text: buffer.toString(encoding), json: buffer.toString("base64") };
});
const times = fc
  .date({ min: new Date("0001-01-01T00:00:00Z"), max: new Date("9999-12-31T23:59:59.999Z"), noInvalidDate: true })
  .map((date): Sample => ({ text: date.toISOString(), json: date.toISOString().replace(".000Z", "Z") }));

const isSame = (text: string, value: string) => text === value;
const isNumber = (text: string, value: string) =>
  text === value || (/^-?[0-9]/.test(text) && !/[xob ]/i.test(text) && Number(text) === Number(value));
/** Either alphabet, with full padding or none. The bits after the last byte are not significant. */
const isBytes = (text: string, value: string) => {
  const [, digits = "", padding = ""] = /^([A-Za-z0-9+/_-]*)(={0,2})$/.exec(text) ?? [];
  const isWhole = padding === "" ? digits.length % 4 !== 1 : text.length % 4 === 0;
  return isWhole && digits !== "" && Buffer.from(text, "base64").equals(Buffer.from(value, "base64"));
};
const isTime = (text: string, value: string) => new Date(text).getTime() === new Date(value).getTime();
/** An enum is open: a number without a name is a value, and is written as a number. */
const isName = (text: string, value: string) => {
  const index = ["UNSPECIFIED", "RED", "GREEN"].indexOf(value);
  return text === value || (/^-?[0-9]+$/.test(text) && Number(text) + 0 === (index === -1 ? Number(value) : index));
};

const scalar = (type: string, samples: fc.Arbitrary<Sample>, isValue = isNumber): ScalarCase => ({
  type,
  field: `${type}_value`,
  samples,
  isValue,
});
const cases: readonly ScalarCase[] = [
  scalar("double", fc.double().map(decimal)),
  scalar("float", fc.float().map(decimal)),
  ...["int32", "sint32", "sfixed32"].map((type) => scalar(type, signed(32n))),
  ...["int64", "sint64", "sfixed64"].map((type) => scalar(type, signed(64n))),
  ...["uint32", "fixed32"].map((type) => scalar(type, unsigned(32n))),
  ...["uint64", "fixed64"].map((type) => scalar(type, unsigned(64n))),
  scalar(
    "bool",
    fc.boolean().map((value) => ({ text: String(value), json: value })),
    isSame,
  ),
  scalar("string", texts, isSame),
  scalar("bytes", bytes, isBytes),
  scalar("enum", fc.constantFrom({ text: "GREEN", json: "GREEN" }, { text: "2", json: "GREEN" }), isName),
  // A message cannot be a path variable.
  { type: "", field: "timestamp", samples: times, isValue: isTime },
];

/** A segment cannot be empty, and URL clients remove `.` and `..`. */
const fitsPath = (text: string) => text !== "" && text !== "." && text !== "..";
const urlsOf = ({ type, field }: ScalarCase, text: string) => [
  `/types?${field}=${encodeURIComponent(text)}`,
  ...(type !== "" && fitsPath(text) ? [`/types/${type}/${encodeURIComponent(text)}`] : []),
];

test.each(cases.map((scalarCase) => [scalarCase.field, scalarCase] as const))(
  "reads every %s from the path and the query",
  async (_type, scalarCase) => {
    await fc.assert(
      fc.asyncProperty(scalarCase.samples, async ({ text, json }) => {
        for (const url of urlsOf(scalarCase, text)) {
          const { status, body } = await server.call("GET", url);
          expect([url, status, body[scalarCase.field]]).toEqual([url, 200, json]);
        }
      }),
      { numRuns: runs(25) },
    );
  },
);

/** Texts that resemble values of several types. */
const anyText = fc.oneof(
  fc.string(),
  fc.string({ unit: "binary" }),
  fc.stringMatching(/^[-+ ]?0?[xXbo]?[0-9]{1,22}(\.[0-9]{0,3})?([eE][-+]?[0-9]{1,3})?[ a]?$/),
  fc.stringMatching(/^[A-Za-z0-9+/_-]{0,6}={0,3}$/),
  fc.constantFrom(
    "",
    "true",
    "TRUE",
    "1",
    "null",
    "NaN",
    "-Infinity",
    "inf",
    "RED",
    "red",
    "2024-02-30T00:00:00Z",
    "[]",
    "{}",
  ),
);

test.each(cases.map((scalarCase) => [scalarCase.field, scalarCase] as const))(
  "any text for a %s is a value that round-trips, or a 400 that names the field",
  async (_type, scalarCase) => {
    await fc.assert(
      fc.asyncProperty(anyText, async (text) => {
        for (const url of urlsOf(scalarCase, text)) {
          const { status, body } = await server.call("GET", url);
          const value: unknown = body[scalarCase.field] ?? "";
          const isNamed = status === 400 && String(body.fields) === scalarCase.field;
          // An empty value of the query counts as absent.
          const isRight = status === 200 && (text === "" || scalarCase.isValue(text, String(value)));
          expect([url, status, body, isNamed || isRight]).toEqual([url, status, body, true]);
          for (const nextUrl of isRight ? urlsOf(scalarCase, String(value)) : []) {
            const next = await server.call("GET", nextUrl);
            expect([nextUrl, next.status, next.body[scalarCase.field] ?? ""]).toEqual([nextUrl, 200, value]);
          }
        }
      }),
      { numRuns: runs(25) },
    );
  },
);
