import { badField } from "../errors.ts";
import { isRounded } from "./numbers.ts";

export interface JsonLimits {
  /** How deep objects and arrays nest. */
  readonly depth: number;
  /** How many values there are in all: a short text can hold very many. */
  readonly items: number;
}

/** Room for the longest list of a request (100,000 point keys), and for what stands beside it. */
export const defaultJsonLimits: JsonLimits = { depth: 32, items: 150_000 };

/**
 * Where the numbers stand that JSON.parse rounds to an integer that the text is not, such as 9007199254740991.4: by key or
 * index, level by level. A leaf is one of them.
 */
export type RoundedNumbers = ReadonlyMap<string | number, RoundedNumbers>;

/** A number is rounded. */
export const roundedLeaf: RoundedNumbers = new Map();

const quote = 34;
const backslash = 92;
/** An integer of so many digits is exact. */
const exactDigits = 15;

interface Level {
  readonly isObject: boolean;
  readonly keys: Set<string>;
  /** The key or the index of what is being read. */
  at: string | number;
}

/**
 * Looks at a JSON text before it is parsed: JSON.parse keeps the last of two equal keys in silence, and builds whatever
 * nests and repeats however much. Faults of the grammar are left to JSON.parse.
 * Returns which numbers JSON.parse rounds to integers; undefined where it rounds none.
 * @throws INVALID_ARGUMENT that names the key, with its path
 */
export function scanJson(text: string, limits: JsonLimits): RoundedNumbers | undefined {
  const levels: Level[] = [];
  let rounded: RoundedNumbers | undefined;
  let items = 0;
  let expectsKey = false;
  for (let index = 0; index < text.length; index += 1) {
    switch (text.charCodeAt(index)) {
      case quote: {
        const end = endOfString(text, index);
        if (expectsKey) readKey(text.slice(index, end + 1));
        expectsKey = false;
        index = end;
        break;
      }
      case 123: // {
      case 91: // [
        open(text[index] === "{");
        break;
      case 125: // }
      case 93: // ]
        levels.pop();
        expectsKey = false;
        break;
      case 44: // ,
        next();
        break;
      case 45: // -
      case 48: // 0 to 9
      case 49:
      case 50:
      case 51:
      case 52:
      case 53:
      case 54:
      case 55:
      case 56:
      case 57:
        index = readNumber(index);
        break;
    }
  }
  return rounded;

  /** Returns the index of the number's last character. */
  function readNumber(start: number): number {
    let end = start + 1;
    while (isDigit(text.charCodeAt(end))) end += 1;
    let isPlain = end - start <= exactDigits;
    while (isOfNumber(text.charCodeAt(end))) {
      isPlain = false;
      end += 1;
    }
    if (!isPlain && isRounded(text.slice(start, end))) rounded = addRounded(rounded, levels);
    return end - 1;
  }

  function open(isObject: boolean): void {
    if (levels.length === limits.depth) throw badField(path(), `nests deeper than ${limits.depth} levels`);
    count();
    levels.push({ isObject, keys: new Set(), at: isObject ? "" : 0 });
    expectsKey = isObject;
  }

  function next(): void {
    count();
    const level = levels.at(-1);
    if (typeof level?.at === "number") level.at += 1;
    expectsKey = level?.isObject === true;
  }

  function readKey(literal: string): void {
    const level = levels.at(-1);
    const key = parseKey(literal);
    if (level === undefined || key === undefined) return;
    level.at = key;
    if (level.keys.has(key)) throw badField(path(), "is given twice");
    level.keys.add(key);
  }

  function count(): void {
    items += 1;
    if (items > limits.items) throw badField("", `the body holds more than ${limits.items} values`);
  }

  function path(): string {
    return levels.reduce((before, { at }) => joinJsonPath(before, at), "");
  }
}

function isDigit(code: number): boolean {
  return code >= 48 && code <= 57;
}

/** Digits, point, exponent and signs. */
function isOfNumber(code: number): boolean {
  return isDigit(code) || code === 46 || code === 43 || code === 45 || code === 69 || code === 101;
}

/** Keys are kept as they are, not joined to paths: a body may have many numbers below a long key. */
function addRounded(before: RoundedNumbers | undefined, levels: readonly Level[]): RoundedNumbers {
  if (levels.length === 0) return roundedLeaf;
  const root = (before ?? new Map()) as Map<string | number, RoundedNumbers>;
  let branch = root;
  for (const { at } of levels.slice(0, -1)) {
    const below = (branch.get(at) ?? new Map()) as typeof root;
    branch.set(at, below);
    branch = below;
  }
  branch.set(levels.at(-1)?.at ?? "", roundedLeaf);
  return root;
}

/** `a`, `0` → `a[0]`; `a`, `b` → `a.b`. */
export function joinJsonPath(before: string, at: string | number): string {
  if (typeof at === "number") return `${before}[${at}]`;
  // An empty key has to be seen in a list of fields.
  const name = at === "" ? '""' : at;
  return before === "" ? name : `${before}.${name}`;
}

/** The index of the closing quote; the text's end where there is none. */
function endOfString(text: string, start: number): number {
  let index = start + 1;
  while (index < text.length) {
    const end = text.indexOf('"', index);
    if (end === -1) return text.length;
    let slashes = 0;
    while (text.charCodeAt(end - 1 - slashes) === backslash) slashes += 1;
    if (slashes % 2 === 0) return end;
    index = end + 1;
  }
  return index;
}

function parseKey(literal: string): string | undefined {
  if (!literal.includes("\\")) return literal.slice(1, -1);
  try {
    return JSON.parse(literal) as string;
  } catch {
    return undefined;
  }
}
