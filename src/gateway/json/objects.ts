import { randomUUID } from "node:crypto";
import type { JsonValue } from "@bufbuild/protobuf";

export function isObject(json: unknown): json is Record<string, JsonValue> {
  return typeof json === "object" && json !== null && !Array.isArray(json) && !ArrayBuffer.isView(json);
}

/** Sets a key of an object as its own: "__proto__" would replace the prototype. */
export function setOwn(object: object, key: string, value: unknown): void {
  if (key !== prototypeKey) (object as Record<string, unknown>)[key] = value;
  else Object.defineProperty(object, key, { value, enumerable: true, configurable: true, writable: true });
}

const prototypeKey = "__proto__";
/** Stands for "__proto__" where protobuf-es sets keys by assignment. A caller cannot guess it. */
const hiddenKey = `hidden-${randomUUID()}`;

/** Renames the own key "__proto__" of a map's or Struct's JSON. Returns whether there was one. */
export function hideKey(json: Record<string, JsonValue>): boolean {
  if (!Object.hasOwn(json, prototypeKey)) return false;
  const value = json[prototypeKey] ?? null;
  Reflect.deleteProperty(json, prototypeKey);
  json[hiddenKey] = value;
  return true;
}

/** Gives hidden keys of a message, and of all in it, their name back. */
export function showKeys(value: unknown): void {
  if (Array.isArray(value)) for (const item of value) showKeys(item);
  if (!isObject(value)) return;
  for (const [key, item] of Object.entries(value)) {
    showKeys(item);
    if (key !== hiddenKey) continue;
    Reflect.deleteProperty(value, key);
    setOwn(value, prototypeKey, item);
  }
}
