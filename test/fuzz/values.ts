import type { DescField, DescMessage } from "@bufbuild/protobuf";

/** A source of choices that is the same for the same seed (mulberry32). */
export interface Dice {
  /** A whole number from 0 on, below the limit. */
  below(limit: number): number;
  chance(probability: number): boolean;
  pick<Item>(items: readonly Item[]): Item;
}

export function createDice(seed: number): Dice {
  let state = seed >>> 0;
  const next = () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
  const below = (limit: number) => Math.floor(next() * limit);
  return {
    below,
    chance: (probability) => next() < probability,
    pick: (items) => items[below(items.length)] as (typeof items)[number],
  };
}

const texts = ["fuzz_a", "fuzz_b", "fuzz_company", "2026-11-25", "00000000-0000-4000-8000-000000000000", "a", ""];
/** As JSON texts, so that what JSON.stringify never writes is among them. */
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
];
const numbers = ["0", "1", "-1", "7", "1000", "2147483647", "2147483648", "4294967296", "9007199254740993"];
const oddNumbers = ["1e999", "-0", "1.5", "1e2", "NaN", '"NaN"', '"1"', '" 1"', '"0x10"', "9".repeat(400), "01"];
const wrongTypes = ["null", "true", "{}", "[]", '"x"', "12", "[[[]]]", '{"a":1}', "undefined", ""];
const times = [
  '"2026-11-25T12:00:00Z"',
  '"2026-09-31T00:00:00Z"',
  '"2023-02-29T00:00:00Z"',
  '"24:00"',
  '"1s"',
  '"5s30m"',
];

/** The JSON text of a message: mostly as its fields have it, with some values on and beyond their bounds. */
export function writeJson(dice: Dice, desc: DescMessage, oddness: number, depth = 0): string {
  switch (desc.typeName) {
    case "google.protobuf.Timestamp":
    case "google.protobuf.Duration":
      return dice.pick(times);
    case "google.protobuf.Struct":
      return '{"a":[1,{"b":null}]}';
    case "google.api.HttpBody":
      return '{"content_type":"application/json","data":"e30="}';
  }
  const members = desc.fields
    .filter(() => dice.chance(depth > 4 ? 0.1 : 0.75))
    .map(
      (field) =>
        `${JSON.stringify(dice.chance(0.9) ? field.name : field.jsonName)}:${writeField(dice, field, oddness, depth)}`,
    );
  if (dice.chance(oddness))
    members.push(dice.pick(['"__proto__":{"x":1}', '"nothing":1', '"":1', members[0] ?? '"x":1']));
  return `{${members.join(",")}}`;
}

function writeField(dice: Dice, field: DescField, oddness: number, depth: number): string {
  if (dice.chance(oddness)) return dice.pick(wrongTypes);
  const one = () => writeOne(dice, field, oddness, depth);
  switch (field.fieldKind) {
    case "list": {
      if (!dice.chance(oddness / 4)) return `[${Array.from({ length: dice.below(3) }, one).join(",")}]`;
      // Within a long list there is no other one.
      const item = writeOne(dice, field, 0, depth);
      return `[${Array.from({ length: 5_000 }, () => item).join(",")}]`;
    }
    case "map":
      return `{"a":${one()},"__proto__":${one()}}`;
    default:
      return one();
  }
}

function writeOne(dice: Dice, field: DescField, oddness: number, depth: number): string {
  if (field.message !== undefined) return writeJson(dice, field.message, oddness, depth + 1);
  if (field.enum !== undefined) {
    const { name } = dice.pick(field.enum.values);
    return dice.chance(oddness) ? dice.pick(['"NOWHERE"', "99", "-1"]) : JSON.stringify(name);
  }
  // ScalarType: 9 is string, 12 bytes, 8 bool; all others are numbers.
  const scalar = field.scalar ?? 9;
  if (scalar === 8) return dice.pick(["true", "false"]);
  if (scalar === 9) return dice.chance(oddness) ? dice.pick(oddTexts) : JSON.stringify(dice.pick(texts));
  if (scalar === 12) return dice.pick(['"AAAA"', '"A=="', '"="', '""']);
  return dice.chance(oddness) ? dice.pick(oddNumbers) : dice.pick(numbers);
}

/** Breaks the bytes of a body in one of the ways in which they break. */
export function breakBytes(dice: Dice, bytes: Buffer): Buffer {
  switch (dice.below(8)) {
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
    default:
      // A group of protobuf within a group, and so on.
      return Buffer.alloc(3_000, 0x0b);
  }
}
