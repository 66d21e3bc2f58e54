import { create, type DescField, type DescMessage, type Registry, ScalarType } from "@bufbuild/protobuf";
import { anyPack, isWrapperDesc } from "@bufbuild/protobuf/wkt";
import fc from "fast-check";

/** The fields that `create` makes a message of. */
export type Shape = Record<string, unknown>;

/** How deep messages are nested. */
const maxDepth = 2;

const texts = fc.oneof(
  fc.string({ unit: "grapheme", maxLength: 12 }),
  fc.string({
    unit: fc.constantFrom('"', "\\", "\n", "\u0000", "\u001f", "\u2028", "é", "\ud83d\ude00", "a"),
    maxLength: 6,
  }),
);
/** protobuf-es loses the key "__proto__" when it writes JSON. test/gateway/types.test.ts covers it. */
const keyTexts = texts.filter((text) => text !== "__proto__");
const seconds = fc.integer({ min: -62_135_596_800, max: 253_402_300_799 }).map(BigInt);
const nanos = fc.oneof(
  fc.constant(0),
  fc.integer({ min: 0, max: 999 }).map((ms) => ms * 1_000_000),
  fc.nat(999_999_999),
);
const json = fc
  .jsonValue({ maxDepth: 2 })
  .map((value) => JSON.parse(JSON.stringify(value).replaceAll("__proto__", "x")));

const scalars: Readonly<Record<ScalarType, fc.Arbitrary<unknown>>> = {
  [ScalarType.DOUBLE]: fc.double(),
  [ScalarType.FLOAT]: fc.float(),
  [ScalarType.INT32]: fc.integer(),
  [ScalarType.SINT32]: fc.integer(),
  [ScalarType.SFIXED32]: fc.integer(),
  [ScalarType.UINT32]: fc.nat(0xffff_ffff),
  [ScalarType.FIXED32]: fc.nat(0xffff_ffff),
  [ScalarType.INT64]: longs(-(2n ** 63n), 2n ** 63n - 1n),
  [ScalarType.SINT64]: longs(-(2n ** 63n), 2n ** 63n - 1n),
  [ScalarType.SFIXED64]: longs(-(2n ** 63n), 2n ** 63n - 1n),
  [ScalarType.UINT64]: longs(0n, 2n ** 64n - 1n),
  [ScalarType.FIXED64]: longs(0n, 2n ** 64n - 1n),
  [ScalarType.BOOL]: fc.boolean(),
  [ScalarType.STRING]: texts,
  [ScalarType.BYTES]: fc.uint8Array({ maxLength: 8 }),
};

function longs(min: bigint, max: bigint): fc.Arbitrary<bigint> {
  const edges = [min, max, 0n, 2n ** 53n - 1n, 2n ** 53n].filter((value) => value >= min);
  return fc.oneof(fc.bigInt({ min, max }), fc.constantFrom(...edges));
}

/**
 * Returns random messages of a type, as plain values with any field absent.
 * @param registry the types that an Any contains
 */
export function shapesOf(desc: DescMessage, registry: Registry, depth = 0): fc.Arbitrary<Shape> {
  const special = wellKnown(desc, registry, depth);
  if (special !== undefined) return special;
  const members = desc.members.map((member): [string, fc.Arbitrary<unknown>] => {
    if (member.kind === "field") return [member.localName, fieldValues(member, registry, depth)];
    const cases = member.fields
      .filter(({ message }) => message === undefined || depth < maxDepth)
      .map((field) => fieldValues(field, registry, depth).map((value) => ({ case: field.localName, value })));
    return [member.localName, fc.oneof(...cases)];
  });
  return fc.record(Object.fromEntries(members), { requiredKeys: [] });
}

function fieldValues(field: DescField, registry: Registry, depth: number): fc.Arbitrary<unknown> {
  const values = itemValues(field, registry, depth);
  if (field.fieldKind === "list") return fc.array(values, { maxLength: 3 });
  if (field.fieldKind !== "map") return values;
  const keys = field.mapKey === ScalarType.STRING ? keyTexts : scalars[field.mapKey].map(String);
  return fc.dictionary(keys, values, { maxKeys: 3, noNullPrototype: true });
}

function itemValues(field: DescField, registry: Registry, depth: number): fc.Arbitrary<unknown> {
  const { message, enum: enumeration, scalar } = field;
  if (enumeration !== undefined) return fc.constantFrom(...enumeration.values.map(({ number }) => number), 77);
  if (message === undefined) return scalars[scalar];
  if (field.fieldKind === "message" && field.oneof === undefined && isWrapperDesc(message)) {
    return scalars[message.fields[0].scalar];
  }
  if (message.typeName === "google.protobuf.Struct")
    return fc.dictionary(keyTexts, json, { maxKeys: 3, noNullPrototype: true });
  if (depth >= maxDepth && !message.typeName.startsWith("google.protobuf.")) return fc.constant({});
  return shapesOf(message, registry, depth + 1);
}

function wellKnown({ typeName }: DescMessage, registry: Registry, depth: number): fc.Arbitrary<Shape> | undefined {
  switch (typeName) {
    case "google.protobuf.Timestamp":
      return fc.record({ seconds, nanos });
    case "google.protobuf.Duration":
      return fc.tuple(fc.nat(10_000_000), nanos, fc.boolean()).map(([whole, part, isNegative]) => ({
        seconds: BigInt(isNegative ? -whole : whole),
        nanos: isNegative ? -part : part,
      }));
    case "google.protobuf.FieldMask":
      return fc.record({ paths: fc.array(fc.constantFrom("name", "company_key", "a.b_c")) });
    case "google.protobuf.Struct":
      return fc.constant({ fields: {} });
    case "google.protobuf.Value":
      return fc
        .constantFrom<Shape["kind"]>(
          { case: "nullValue", value: 0 },
          { case: "numberValue", value: 1.5 },
          { case: "stringValue", value: 'a"b' },
          { case: "boolValue", value: true },
          { case: "listValue", value: { values: [{ kind: { case: "boolValue", value: false } }] } },
          { case: "structValue", value: { fields: { a: { kind: { case: "nullValue", value: 0 } } } } },
        )
        .map((kind) => ({ kind }));
    case "google.protobuf.ListValue":
      return fc.constant({ values: [{ kind: { case: "stringValue", value: "" } }] });
    case "google.protobuf.Any":
      return anys(registry, depth);
    default:
      return undefined;
  }
}

function anys(registry: Registry, depth: number): fc.Arbitrary<Shape> {
  const types = [...registry].filter((type) => type.kind === "message" && depth < maxDepth);
  const contents = types.slice(0, 8).map((type) => {
    const desc = type as DescMessage;
    return shapesOf(desc, registry, depth + 1).map((shape) => anyPack(desc, create(desc, shape)));
  });
  return fc.oneof(fc.constant({}), ...contents);
}
