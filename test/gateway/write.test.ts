import { create, createRegistry, type DescField, type DescMessage, type JsonValue, toJson } from "@bufbuild/protobuf";
import { nestedTypes } from "@bufbuild/protobuf/reflect";
import { isWrapperDesc } from "@bufbuild/protobuf/wkt";
import fc from "fast-check";
import { expect, test } from "vitest";
import { isNullable } from "../../src/gateway/fields.ts";
import { toIsoDuration } from "../../src/gateway/json/times.ts";
import { createJsonWriters } from "../../src/gateway/json/write.ts";
import { shapesOf } from "../support/random-messages.ts";
import { runs } from "../support/runs.ts";
import { everyService } from "../support/services.ts";
import { services as fixture } from "./fixture.ts";

const files = new Set((await everyService()).map(({ file }) => file));
const own = [...files].flatMap((file) => [...nestedTypes(file)]).filter((type) => type.kind === "message");
const fixtures = ["Types", "Everything", "Rare", "Nested", "Page", "Strict"].map(
  (name) => fixture.getMessage(`fixture.${name}`) as DescMessage,
);
const registry = createRegistry(...fixtures, ...own.slice(0, 10));
const { messageWriter } = createJsonWriters(registry);

test.each([...fixtures, ...own])("writes $typeName as protobuf-es does, in the form of the gateway", (desc) => {
  const write = messageWriter(desc);
  const options = { useProtoFieldName: true, alwaysEmitImplicit: true, registry };
  fc.assert(
    fc.property(shapesOf(desc, registry), (shape) => {
      const message = create(desc, shape);
      const text = write(message);
      expect(text).toBe(JSON.stringify(inOurForm(desc, toJson(desc, message, options))));
      // No message is needed to write one.
      expect(write(shape)).toBe(text);
    }),
    { numRuns: runs(fixtures.includes(desc) ? 100 : 20) },
  );
});

/** Converts the JSON of protobuf-es: unset nullable fields, 64-bit integers and durations differ. */
function inOurForm(desc: DescMessage, json: JsonValue): JsonValue {
  if (desc.typeName === "google.protobuf.Duration") return toIsoDuration(json as string);
  if (desc.typeName === "google.protobuf.Any") return anyInOurForm(json as Record<string, JsonValue>);
  if (isWrapperDesc(desc)) return itemInOurForm(desc.fields[0], json);
  if (desc.typeName.startsWith("google.protobuf.")) return json;
  const given = json as Record<string, JsonValue>;
  const entries = desc.fields
    .toSorted((left, right) => left.number - right.number)
    .flatMap((field): [string, JsonValue][] => {
      const value = given[field.name];
      if (value !== undefined) return [[field.name, fieldInOurForm(field, value)]];
      return isNullable(field) ? [[field.name, null]] : [];
    });
  return Object.fromEntries(entries);
}

function anyInOurForm({ "@type": type, ...json }: Record<string, JsonValue>): JsonValue {
  const desc = type === undefined ? undefined : registry.getMessage(String(type).split("/").at(-1) ?? "");
  if (type === undefined || desc === undefined) return json;
  if (desc.typeName.startsWith("google.protobuf."))
    return { "@type": type, value: inOurForm(desc, json.value ?? null) };
  return { "@type": type, ...(inOurForm(desc, json) as Record<string, JsonValue>) };
}

function fieldInOurForm(field: DescField, json: JsonValue): JsonValue {
  if (field.fieldKind === "list") return (json as JsonValue[]).map((item) => itemInOurForm(field, item));
  if (field.fieldKind !== "map") return itemInOurForm(field, json);
  return Object.fromEntries(Object.entries(json as object).map(([key, item]) => [key, itemInOurForm(field, item)]));
}

function itemInOurForm({ message, scalar }: DescField, json: JsonValue): JsonValue {
  if (message !== undefined) return inOurForm(message, json);
  // Only 64-bit integers are strings of digits: their types are the ones that protobuf-es represents as bigint.
  const isLong = scalar !== undefined && longs.includes(scalar);
  return isLong && Number.isSafeInteger(Number(json)) ? Number(json) : json;
}

const longs: readonly number[] = [3, 4, 6, 16, 18];
