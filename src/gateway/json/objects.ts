import { randomUUID } from "node:crypto";
import type { JsonValue } from "@bufbuild/protobuf";

/** Whether a value is a JSON object, and no array. */
export function isObject(json: unknown): json is Record<string, JsonValue> {
  return typeof json === "object" && json !== null && !Array.isArray(json) && !ArrayBuffer.isView(json);
}

/** Sets an own key of an object. An assignment to "__proto__" would replace the prototype. */
export function setOwn(object: object, key: string, value: unknown): void {
  if (key !== prototypeKey) (object as Record<string, unknown>)[key] = value;
  else Object.defineProperty(object, key, { value, enumerable: true, configurable: true, writable: true });
}

const prototypeKey = "__proto__";
/** Replaces "__proto__" while protobuf-es assigns keys. Callers cannot guess it. */
const hiddenKey = `hidden-${randomUUID()}`;

/** Renames the own key "__proto__" in the JSON of a map or Struct. Returns whether there was one. */
export function hideKey(json: Record<string, JsonValue>): boolean {
  if (!Object.hasOwn(json, prototypeKey)) return false;
  const value = json[prototypeKey] ?? null;
  Reflect.deleteProperty(json, prototypeKey);
  json[hiddenKey] = value;
  return true;
}

/** Restores the hidden keys of a message and of everything in it. */
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
