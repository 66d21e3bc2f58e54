import { type DescField, type DescMessage, fromJson, type JsonValue } from "@bufbuild/protobuf";
import type { FieldViolation } from "../../call/bounds.ts";
import { ruleOf } from "../../call/library-errors.ts";
import { reasonOf } from "../errors.ts";
import { fieldsByName, isWellKnown } from "../fields.ts";
import { joinPath } from "./scan.ts";

/**
 * Names the value that makes a message's JSON unreadable, with its path: protobuf-es names its field alone.
 * Reads the parts once more, each by itself, until one fails: only what has failed is looked at this way.
 */
export function locate(desc: DescMessage, json: JsonValue, error: unknown, path = ""): FieldViolation {
  if (isWellKnown(desc)) return { field: path, description: ruleOf(error) };
  if (typeof json !== "object" || json === null || Array.isArray(json)) {
    return { field: path, description: "must be an object" };
  }
  const fields = fieldsByName(desc);
  for (const [key, value] of Object.entries(json)) {
    const field = fields.get(key);
    const failure = failureOf(desc, { [key]: value });
    if (field === undefined || failure === undefined) continue;
    return locateIn(desc, field, { key, value, failure, path: joinPath(path, key) });
  }
  return { field: path, description: ruleOf(error) };
}

interface Failed {
  readonly key: string;
  readonly value: JsonValue;
  readonly failure: unknown;
  readonly path: string;
}

function locateIn(desc: DescMessage, field: DescField, { key, value, failure, path }: Failed): FieldViolation {
  for (const [at, item] of itemsOf(field, value)) {
    const itemFailure = failureOf(desc, { [key]: typeof at === "number" ? [item] : { [at]: item } });
    if (itemFailure === undefined) continue;
    return locateOne(field, item, itemFailure, joinPath(path, at));
  }
  if (field.fieldKind === "message") return locateOne(field, value, failure, path);
  return { field: path, description: reasonOf(field, failure) };
}

function locateOne(field: DescField, value: JsonValue, failure: unknown, path: string): FieldViolation {
  if (field.message !== undefined) return locate(field.message, value, failure, path);
  return { field: path, description: reasonOf(field, failure, true) };
}

function itemsOf({ fieldKind }: DescField, value: JsonValue): [at: string | number, item: JsonValue][] {
  if (typeof value !== "object" || value === null) return [];
  if (Array.isArray(value)) return fieldKind === "list" ? [...value.entries()] : [];
  return fieldKind === "map" ? Object.entries(value) : [];
}

function failureOf(desc: DescMessage, json: JsonValue): unknown {
  try {
    fromJson(desc, json);
    return undefined;
  } catch (error) {
    return error;
  }
}
