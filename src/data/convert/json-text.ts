import { randomUUID } from "node:crypto";
import { parseExactNumber } from "../../xlsx/exact-number.ts";
import { ConversionError } from "./layout.ts";

/**
 * Parses JSON in UTF-8.
 * @throws ConversionError for invalid JSON, a duplicate key in an object, or a number that a double cannot hold exactly
 */
export function parseJsonText(bytes: Buffer): unknown {
  let text: string;
  let value: unknown;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
    value = JSON.parse(text);
  } catch {
    throw new ConversionError("it must be JSON in UTF-8");
  }
  checkTokens(text);
  return value;
}

/** Checks what JSON.parse hides: it keeps the last of duplicate keys, and rounds numbers. */
function checkTokens(json: string): void {
  // The keys of each enclosing object; undefined for an array.
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

/** Serializes JSON. JSON.stringify alone would write -0 as 0. */
export function writeJsonText(value: unknown): string {
  const placeholder = randomUUID();
  let hasNegativeZero = false;
  const text = JSON.stringify(value, (_key, field: unknown) => {
    if (!Object.is(field, -0)) return field;
    hasNegativeZero = true;
    return placeholder;
  });
  return hasNegativeZero ? text.replaceAll(`"${placeholder}"`, "-0") : text;
}
