import { randomUUID } from "node:crypto";
import { parseExactNumber } from "../../xlsx/exact-number.ts";
import { ConversionError } from "./table.ts";

/**
 * Parses JSON in UTF-8.
 * @throws Impossible for text that is no JSON, a key that an object has twice, or a number that no double holds exactly
 */
export function parseJsonText(bytes: Buffer): unknown {
  let text: string;
  let value: unknown;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
    value = JSON.parse(text);
  } catch {
    throw new ConversionError("it is no JSON in UTF-8");
  }
  checkTokens(text);
  return value;
}

/** JSON.parse keeps the last of two keys, and rounds numbers. */
function checkTokens(json: string): void {
  // The keys of each object that the token is in; undefined for an array.
  const open: (Set<string> | undefined)[] = [];
  for (const [token] of json.matchAll(/"(?:[^"\\]+|\\.)*"(?:\s*:)?|[{}[\]]|-?\d[\d.e+-]*/gi)) {
    if (token === "{") open.push(new Set());
    else if (token === "[") open.push(undefined);
    else if (token === "}" || token === "]") open.pop();
    else if (!token.startsWith('"')) checkNumber(token);
    else if (token.endsWith(":")) checkKey(open.at(-1), token.slice(0, token.lastIndexOf('"') + 1));
  }
}

function checkNumber(token: string): void {
  if (parseExactNumber(token) === undefined) {
    throw new ConversionError(`a number cannot be kept exactly: ${token.slice(0, 60)}`);
  }
}

function checkKey(keys: Set<string> | undefined, token: string): void {
  const key = token.includes("\\") ? (JSON.parse(token) as string) : token.slice(1, -1);
  if (keys?.has(key)) throw new ConversionError(`an object has the key ${token.slice(0, 60)} twice`);
  keys?.add(key);
}

/** Writes JSON. JSON.stringify would write -0 as 0. */
export function writeJsonText(value: unknown): string {
  const mark = randomUUID();
  let hasNegativeZero = false;
  const text = JSON.stringify(value, (_key, one: unknown) => {
    if (!Object.is(one, -0)) return one;
    hasNegativeZero = true;
    return mark;
  });
  return hasNegativeZero ? text.replaceAll(`"${mark}"`, "-0") : text;
}
