import { badField } from "../errors.ts";
import { isRounded } from "./numbers.ts";
import { addRounded, type RoundedNumbers } from "./rounded.ts";
import { joinJsonPath } from "./violations.ts";

export interface JsonLimits {
  /** The deepest nesting of objects and arrays. */
  readonly depth: number;
  /** The number of values in total: a short text can hold very many. */
  readonly items: number;
}

/** Room for the longest list of a request (100,000 point keys) and its other fields. */
export const defaultJsonLimits: JsonLimits = { depth: 32, items: 150_000 };

const quote = 34;
const backslash = 92;
/** Integers of up to 15 digits are exact. */
const exactDigits = 15;

interface Level {
  readonly isObject: boolean;
  readonly keys: Set<string>;
  /** The key or the index of the current value. */
  at: string | number;
}

/**
 * Checks a JSON text before it is parsed: JSON.parse silently keeps the last of two equal keys, rounds numbers, and has no
 * limits. Syntax errors are left to JSON.parse.
 * @returns the numbers that JSON.parse rounds to integers; undefined when there are none
 * @throws INVALID_ARGUMENT that names the path, for a repeated key and beyond a limit
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
        enter(text[index] === "{");
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

  /** Notes a number that JSON.parse rounds. Returns the index of its last character. */
  function readNumber(start: number): number {
    let end = start + 1;
    while (isDigit(text.charCodeAt(end))) end += 1;
    let isPlain = end - start <= exactDigits;
    while (isInNumber(text.charCodeAt(end))) {
      isPlain = false;
      end += 1;
    }
    if (!isPlain && isRounded(text.slice(start, end)))
      rounded = addRounded(
        rounded,
        levels.map(({ at }) => at),
      );
    return end - 1;
  }

  function enter(isObject: boolean): void {
    if (levels.length === limits.depth) throw badField(path(), `must not nest deeper than ${limits.depth} levels`);
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
    if (level.keys.has(key)) throw badField(path(), "must be set once");
    level.keys.add(key);
  }

  function count(): void {
    items += 1;
    if (items > limits.items) throw badField("", `the body must hold at most ${limits.items} values`);
  }

  function path(): string {
    return levels.reduce((before, { at }) => joinJsonPath(before, at), "");
  }
}

function isDigit(code: number): boolean {
  return code >= 48 && code <= 57;
}

/** Whether a character can be part of a number: a digit, the point, the exponent or a sign. */
function isInNumber(code: number): boolean {
  return isDigit(code) || code === 46 || code === 43 || code === 45 || code === 69 || code === 101;
}

/** Returns the index of the closing quote; the length of the text when there is none. */
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
