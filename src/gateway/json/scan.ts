import { badField } from "../errors.ts";

export interface JsonLimits {
  /** How deep objects and arrays nest. */
  readonly depth: number;
  /** How many values there are in all: a short text can hold very many. */
  readonly items: number;
}

/** Room for the longest list of a request (100,000 point keys), and for what stands beside it. */
export const defaultJsonLimits: JsonLimits = { depth: 32, items: 150_000 };

const quote = 34;
const backslash = 92;

interface Level {
  readonly isObject: boolean;
  readonly keys: Set<string>;
  /** The key or the index of what is being read. */
  at: string | number;
}

/**
 * Looks at a JSON text before it is parsed: JSON.parse keeps the last of two equal keys in silence, and builds whatever
 * nests and repeats however much. Faults of the grammar are left to JSON.parse.
 * @throws INVALID_ARGUMENT that names the key, with its path
 */
export function scanJson(text: string, limits: JsonLimits): void {
  const levels: Level[] = [];
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
    }
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
