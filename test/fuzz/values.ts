import { type DescEnum, type DescField, type DescMessage, getOption, ScalarType } from "@bufbuild/protobuf";
import {
  type EnumRules,
  type FieldRules,
  field as rulesOption,
  type StringRules,
} from "@bufbuild/protovalidate/gen/buf/validate/validate_pb.js";
import { FieldBehavior, field_behavior } from "#gen/google/api/field_behavior_pb.js";
import type { Dice } from "./dice.ts";

/** The settings for choosing values. */
export interface Choice {
  readonly dice: Dice;
  /** The share of values that the field must refuse. 0 gives only values that are valid by the .proto. */
  readonly oddness: number;
  /** Texts of existing resources, by the name of the field: users, leases, tracecodes. */
  readonly known: (field: string) => readonly string[];
}

const texts = ["fuzz_1", "2026-11-25", "00000000-0000-4000-8000-000000000000", "a", ""];
/** JSON texts, including some that JSON.stringify never writes. */
const oddTexts = [
  '"\\ud800"',
  '"\\u0000"',
  '"\u202e"',
  '"ß"',
  '"../../etc/passwd"',
  '"\'; drop table x; --"',
  '"%00"',
  '"__proto__"',
  `"${"x".repeat(5_000)}"`,
  '""',
];
const numbers = ["0", "1", "7", "1000"];
const oddNumbers = [
  "-1",
  "2147483648",
  "4294967296",
  "9007199254740993",
  "1e999",
  "-0",
  "1.5",
  "1e2",
  "NaN",
  '"NaN"',
  '"1"',
  '" 1"',
  '"0x10"',
  "9".repeat(400),
  "01",
];
const wrongTypes = ["null", "true", "{}", "[]", '"x"', "12", "[[[]]]", '{"a":1}', "undefined", ""];
const oddTimes = ['"2026-09-31T00:00:00Z"', '"2023-02-29T00:00:00Z"', '"24:00"', '"1s"', '"5s30m"', "0"];

/**
 * Returns the JSON text of a message. Its fields keep their rules, including the bounds, or break them as often as the
 * oddness says.
 * @param leftOut the top-level fields to omit
 */
export function writeJson(
  choice: Choice,
  desc: DescMessage,
  leftOut: ReadonlySet<string> = new Set(),
  depth = 0,
): string {
  const { dice, oddness } = choice;
  const chosen = new Set<unknown>();
  const members = desc.fields
    .filter((field) => !leftOut.has(field.name) && isGiven(field))
    .map((field) => `${JSON.stringify(nameOf(field))}:${writeField(choice, field, depth)}`);
  if (dice.chance(oddness)) {
    members.push(dice.pick(['"__proto__":{"x":1}', '"nothing":1', '"":1', members[0] ?? '"x":1']));
  }
  return `{${members.join(",")}}`;

  function isGiven(field: DescField): boolean {
    // Sets one member of each oneof.
    if (field.oneof !== undefined && chosen.has(field.oneof) && !dice.chance(oddness / 4)) return false;
    const isTaken = isRequired(field) ? !dice.chance(oddness / 2) : dice.chance(depth > 4 ? 0.1 : 0.5);
    if (isTaken && field.oneof !== undefined) chosen.add(field.oneof);
    return isTaken;
  }

  function nameOf(field: DescField): string {
    return dice.chance(0.9) ? field.name : field.jsonName;
  }
}

/** Returns the JSON text of one value of a field: of an item when the field is a list. */
export function writeOne(choice: Choice, field: DescField, depth = 0): string {
  const { dice, oddness } = choice;
  const rules = itemRules(field);
  const isOdd = dice.chance(oddness);
  if (field.message !== undefined) return writeMessage(choice, field, field.message, depth);
  if (field.enum !== undefined) {
    if (isOdd) return dice.pick(['"NOWHERE"', "99", "-1", "0"]);
    const known = choice.known(field.name);
    return known.length > 0 && dice.chance(0.8) ? JSON.stringify(dice.pick(known)) : writeEnum(dice, field.enum, rules);
  }
  switch (field.scalar) {
    case ScalarType.BOOL:
      return dice.pick(["true", "false"]);
    case ScalarType.BYTES:
      return isOdd ? dice.pick(['"A=="', '"="', '"A Q"']) : dice.pick(['"AAAA"', '""', '"AQ=="']);
    case ScalarType.STRING: {
      const known = choice.known(field.name);
      if (isOdd) return dice.chance(0.5) ? dice.pick(oddTexts) : JSON.stringify(beyondText(dice, rules));
      return JSON.stringify(known.length > 0 && dice.chance(0.9) ? dice.pick(known) : textOf(dice, rules));
    }
    default:
      return isOdd ? dice.pick([...oddNumbers, ...beyondNumbers(rules)]) : dice.pick(numbersOf(rules));
  }
}

function writeField(choice: Choice, field: DescField, depth: number): string {
  const { dice, oddness } = choice;
  if (dice.chance(oddness / 2)) return dice.pick(wrongTypes);
  const single = () => writeOne(choice, field, depth);
  if (field.fieldKind === "map") return `{"a":${single()},"__proto__":${single()}}`;
  if (field.fieldKind !== "list") return single();
  const rules = getOption(field, rulesOption).type;
  const { minItems = 0n, maxItems = 3n } = rules.case === "repeated" ? rules.value : {};
  if (dice.chance(oddness / 8)) {
    // A long list contains no other long list.
    const item = writeOne({ ...choice, oddness: 0 }, field, depth + 5);
    const count = dice.pick([Math.min(5_000, Number(maxItems)), Math.min(5_000, Number(maxItems) + 1), 5_000]);
    return `[${Array.from({ length: count }, () => item).join(",")}]`;
  }
  const least = dice.chance(oddness) ? 0 : Number(minItems);
  return `[${Array.from({ length: least + dice.below(2) }, single).join(",")}]`;
}

function writeMessage(choice: Choice, field: DescField, desc: DescMessage, depth: number): string {
  const { dice, oddness } = choice;
  switch (desc.typeName) {
    case "google.protobuf.Timestamp":
      if (dice.chance(oddness)) return dice.pick(oddTimes);
      return JSON.stringify(new Date(Date.now() - dice.pick([0, 1000, 86_400_000, 700_000_000])).toISOString());
    case "google.protobuf.Duration":
      return dice.chance(oddness)
        ? dice.pick([...oddTimes, '"-1s"', '"31622401s"', '"P367D"', '"315576000001s"'])
        : dice.pick(['"0s"', '"1.5s"', '"PT1H30M"', '"31622400s"']);
    case "google.protobuf.StringValue": {
      const known = choice.known(field.name);
      if (dice.chance(oddness)) return dice.pick(["null", ...oddTexts]);
      return JSON.stringify(known.length > 0 ? dice.pick(known) : textOf(dice, itemRules(field)));
    }
    case "google.protobuf.FieldMask":
      return dice.pick(['"companyKey"', '"user"', '""', '"a_b"']);
    case "google.protobuf.Struct":
      return '{"a":[1,{"b":null}]}';
    case "google.api.HttpBody":
      return '{"content_type":"application/json","data":"e30="}';
    default:
      return writeJson(choice, desc, undefined, depth + 1);
  }
}

function isRequired(field: DescField): boolean {
  return getOption(field, field_behavior).includes(FieldBehavior.REQUIRED) || getOption(field, rulesOption).required;
}

/** Returns the rules of a value, or of the items of a list. */
function itemRules(field: DescField): FieldRules["type"] {
  const { type } = getOption(field, rulesOption);
  return type.case === "repeated" ? (type.value.items?.type ?? { case: undefined }) : type;
}

function writeEnum(dice: Dice, desc: DescEnum, rules: FieldRules["type"]): string {
  const { notIn = [] }: Partial<EnumRules> = rules.case === "enum" ? rules.value : {};
  const allowed = desc.values.filter(({ number }) => !notIn.includes(number));
  return JSON.stringify(dice.pick(allowed).name);
}

function bounds(rules: FieldRules["type"]): number[] {
  if (rules.case !== "int32" && rules.case !== "uint32" && rules.case !== "double") return [];
  const { lessThan, greaterThan } = rules.value;
  return [lessThan.value, greaterThan.value].filter((bound) => bound !== undefined).map(Number);
}

function numbersOf(rules: FieldRules["type"]): string[] {
  const [most, least] = bounds(rules);
  if (most === undefined) return numbers;
  return [most, least ?? 0, Math.floor((most + (least ?? 0)) / 2), ...numbers.map(Number)]
    .filter((number) => number <= most && number >= (least ?? 0))
    .map(String);
}

function beyondNumbers(rules: FieldRules["type"]): string[] {
  return bounds(rules).flatMap((bound) => [String(bound + 1), String(bound - 1), `${bound}.5`]);
}

/** Returns a text that keeps its rules, sometimes of the minimum or maximum length. */
function textOf(dice: Dice, rules: FieldRules["type"]): string {
  if (rules.case !== "string") return dice.pick(texts);
  const { wellKnown, pattern } = rules.value;
  if (wellKnown.case === "uuid") return uuid(dice);
  if (wellKnown.case === "email") return "someone@example.org";
  if (pattern.includes("fA-F")) return "a".repeat(64);
  return "a".repeat(dice.pick(lengths(rules.value)));
}

function beyondText(dice: Dice, rules: FieldRules["type"]): string {
  if (rules.case !== "string") return dice.pick(texts);
  const { minLen, maxLen } = rules.value;
  return "a".repeat(dice.pick([Math.max(0, Number(minLen) - 1), Number(maxLen) + 1]));
}

function lengths({ minLen, maxLen }: StringRules): number[] {
  const [least, most] = [Number(minLen), maxLen === 0n ? 20 : Number(maxLen)];
  return [least, Math.min(most, least + 5), most];
}

function uuid(dice: Dice): string {
  const digits = Array.from({ length: 12 }, () => dice.below(16).toString(16)).join("");
  return `00000000-0000-4000-8000-${digits}`;
}

/** Corrupts the bytes of a body in one of several ways. */
export function breakBytes(dice: Dice, bytes: Buffer): Buffer {
  switch (dice.below(9)) {
    case 0:
      return bytes.subarray(0, dice.below(bytes.length + 1));
    case 1:
      return Buffer.concat([bytes, Buffer.from([0xc0, 0x80])]);
    case 2:
      return Buffer.from("[".repeat(5_000));
    case 3:
      return Buffer.from(`${'{"a":'.repeat(3_000)}1${"}".repeat(3_000)}`);
    case 4:
      return Buffer.alloc(dice.below(200), dice.below(256));
    case 5: {
      const flipped = Buffer.from(bytes);
      if (flipped.length > 0) flipped[dice.below(flipped.length)] = dice.below(256);
      return flipped;
    }
    case 6:
      return Buffer.alloc(20_000 + dice.below(200_000), " ");
    case 7:
      // An overlong slash within a text.
      return Buffer.concat([Buffer.from('{"username":"'), Buffer.from([0xc0, 0xaf]), Buffer.from('"}')]);
    default:
      // Nested groups of protobuf.
      return Buffer.alloc(3_000, 0x0b);
  }
}
