import { create, type DescField, type DescMessage, fromBinary, ScalarType, toBinary } from "@bufbuild/protobuf";
import { isWrapperDesc } from "@bufbuild/protobuf/wkt";
import { encodeEnvelope } from "@connectrpc/connect/protocol";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  BadRequestSchema,
  ErrorInfoSchema,
  QuotaFailureSchema,
  RetryInfoSchema,
} from "#gen/google/rpc/error_details_pb.js";
import { StatusSchema } from "#gen/google/rpc/status_pb.js";
import {
  AcquireQuotaResponseSchema,
  BatchAcquireQuotaResponseSchema,
  BatchSettleLeasesResponseSchema,
  LeaseSchema,
  LimitStandingSchema,
} from "#gen/tollgate/v1/lease_pb.js";
import { UserSchema } from "#gen/tollgate/v1/user_pb.js";
import { encodeAhead, encodeMessageEnvelope } from "../../src/grpc/encode.ts";
import { serviceOf } from "../gateway/fixture.ts";
import { runs } from "../support/runs.ts";
import { everyService } from "../support/services.ts";

const services = [...(await everyService()), serviceOf("EchoService")];
const details = [StatusSchema, ErrorInfoSchema, QuotaFailureSchema, RetryInfoSchema, BadRequestSchema];
const messages = new Map(
  [...services.flatMap(({ methods }) => methods.flatMap(({ input, output }) => [input, output])), ...details].map(
    (desc): [string, DescMessage] => [desc.typeName, desc],
  ),
);

const text = fc.oneof(
  fc.string(),
  fc.string({ unit: "binary" }),
  // Lengths around the limit of a one-byte length, in characters of one and of several bytes.
  fc.string({ unit: "grapheme-ascii", minLength: 60, maxLength: 140 }),
  fc.string({ unit: "grapheme", minLength: 60, maxLength: 140 }),
  fc.constantFrom("\ud800", "é".repeat(64), "x".repeat(127), "x".repeat(128), "y".repeat(20_000)),
);
const scalars: Partial<Record<ScalarType, fc.Arbitrary<unknown>>> = {
  [ScalarType.STRING]: text,
  [ScalarType.BOOL]: fc.boolean(),
  [ScalarType.BYTES]: fc.uint8Array({ maxLength: 300 }),
  [ScalarType.DOUBLE]: fc.oneof(fc.double(), fc.constantFrom(0, -0)),
  [ScalarType.FLOAT]: fc.float(),
  [ScalarType.INT32]: fc.oneof(fc.nat(300), fc.integer(), fc.constantFrom(0, -0, 127, 128, 2 ** 31 - 1)),
  [ScalarType.UINT32]: fc.oneof(fc.nat(300), fc.constantFrom(0, -0, 127, 128, 16_383, 16_384, 2 ** 31, 2 ** 32 - 1)),
  [ScalarType.INT64]: fc.oneof(fc.bigInt(-(2n ** 63n), 2n ** 63n - 1n), fc.constantFrom(0n, 2n ** 32n - 1n, 2n ** 32n)),
  [ScalarType.UINT64]: fc.bigInt(0n, 2n ** 64n - 1n),
};

/** A value for a field; undefined for deep messages and for types that protobuf-es represents as plain values. */
function valueOf(field: DescField, depth: number): fc.Arbitrary<unknown> | undefined {
  if (field.message !== undefined) {
    const { message } = field;
    const isPlainValue = isWrapperDesc(message) || /\.(Struct|Value|ListValue|Any)$/.test(message.typeName);
    return depth === 0 || isPlainValue ? undefined : initOf(message, depth - 1);
  }
  if (field.enum !== undefined) return fc.constantFrom(...field.enum.values.map(({ number }) => number));
  return field.scalar === undefined ? undefined : scalars[field.scalar];
}

function manyOf(field: DescField, value: fc.Arbitrary<unknown>): fc.Arbitrary<unknown> {
  if (field.fieldKind === "list") return fc.array(value, { maxLength: 4 });
  if (field.fieldKind !== "map") return value;
  const key = field.mapKey === ScalarType.STRING ? text : fc.nat(300).map(String);
  return fc.dictionary(key, value, { maxKeys: 4 });
}

function initOf(desc: DescMessage, depth: number): fc.Arbitrary<Record<string, unknown>> {
  const singles: Record<string, fc.Arbitrary<unknown>> = {};
  for (const field of desc.fields) {
    const value = valueOf(field, depth);
    if (value === undefined || field.oneof !== undefined) continue;
    singles[field.localName] = manyOf(field, value);
  }
  for (const oneof of desc.oneofs) {
    const cases = oneof.fields.flatMap((field) => {
      const value = valueOf(field, depth);
      return value === undefined ? [] : [fc.record({ case: fc.constant(field.localName), value })];
    });
    if (cases.length > 0) singles[oneof.localName] = fc.oneof(...cases);
  }
  return fc.record(singles, { requiredKeys: [] });
}

/** The encoded bytes in base64, or the text of the error. */
function outcome(encode: () => Uint8Array): string {
  try {
    return Buffer.from(encode()).toString("base64");
  } catch (error) {
    return (error as Error).message;
  }
}

/** The outcomes of encodeMessageEnvelope and of toBinary. */
function encodeBoth(desc: DescMessage, init: Record<string, unknown>): [ours: string, toBinary: string] {
  const message = create(desc, init);
  return [
    outcome(() => encodeMessageEnvelope(desc, message)),
    outcome(() => encodeEnvelope(0, toBinary(desc, message))),
  ];
}

describe("encodeMessageEnvelope", () => {
  it.each([...messages])("writes a %s as toBinary does", (_name, desc) => {
    fc.assert(
      fc.property(initOf(desc, 3), (init) => {
        const [ours, expected] = encodeBoth(desc, init);
        expect(ours).toBe(expected);
      }),
      { numRuns: runs(30) },
    );
  });

  it.each([...messages])("encodes a %s ahead, for toBinary to copy", (_name, desc) => {
    fc.assert(
      fc.property(initOf(desc, 3), (init) => {
        const message = create(desc, init);
        expect(outcome(() => toBinary(desc, encodeAhead(desc, message)))).toBe(outcome(() => toBinary(desc, message)));
      }),
      { numRuns: runs(10) },
    );
  });

  it("is tested with more than 50 messages", () => {
    expect(messages.size).toBeGreaterThan(50);
  });

  it.each([
    ["a negative number", UserSchema, { timezone: -5 }],
    ["a time before 1970", LeaseSchema, { grantedTime: { seconds: -1n, nanos: 5 } }],
    ["a time after 2106", LeaseSchema, { grantedTime: { seconds: 2n ** 32n, nanos: 5 } }],
    ["nothing", AcquireQuotaResponseSchema, {}],
    ["an empty nested message", AcquireQuotaResponseSchema, { lease: {}, limits: [{}, {}] }],
    ["more than the reused buffer holds", AcquireQuotaResponseSchema, { lease: { username: "é".repeat(1_000_000) } }],
    [
      "many items beyond the reused buffer",
      AcquireQuotaResponseSchema,
      { limits: Array.from({ length: 20_000 }, () => ({ used: 1 })) },
    ],
  ] as const)("writes %s", (_what, desc, init) => {
    const [ours, expected] = encodeBoth(desc, init);
    expect(ours).toBe(expected);
    // The next message is not affected.
    const [next, expectedNext] = encodeBoth(UserSchema, { username: "x" });
    expect(next).toBe(expectedNext);
  });

  it("leaves only rare values to toBinary", () => {
    // toBinary returns a Uint8Array, the encoder a Buffer.
    const isEncodedHere = (desc: DescMessage, init: Record<string, unknown>) =>
      Buffer.isBuffer(encodeMessageEnvelope(desc, create(desc, init)));
    expect(isEncodedHere(AcquireQuotaResponseSchema, { lease: { points: 3 }, limits: [{ used: 1, limit: 5 }] })).toBe(
      true,
    );
    expect(
      isEncodedHere(BatchAcquireQuotaResponseSchema, { decisions: [{ decision: { case: "granted", value: {} } }] }),
    ).toBe(true);
    expect(
      isEncodedHere(BatchSettleLeasesResponseSchema, { results: [{ result: { case: "settled", value: {} } }] }),
    ).toBe(true);
    expect(isEncodedHere(StatusSchema, { code: 8, details: [{ typeUrl: "x", value: new Uint8Array(3) }] })).toBe(true);
    expect(isEncodedHere(ErrorInfoSchema, { metadata: { a: "b" } })).toBe(true);
    expect(isEncodedHere(UserSchema, { timezone: -5 })).toBe(false);
  });

  it("keeps unknown fields at any depth", () => {
    const lease = new Uint8Array([0x0a, 0x04, 0xf8, 0x07, 0x96, 0x01]);
    const message = fromBinary(AcquireQuotaResponseSchema, lease);
    expect(encodeMessageEnvelope(AcquireQuotaResponseSchema, message)).toEqual(encodeEnvelope(0, lease));
  });

  it.each([-1, 1.5, 2 ** 32, Number.NaN, "1"])("encodes %s as a uint32 as toBinary does", (limit) => {
    const [ours, expected] = encodeBoth(LimitStandingSchema, { limit });
    expect(ours).toBe(expected);
  });
});
