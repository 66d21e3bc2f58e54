import { create, type JsonObject, toJson } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { createFillDefaults } from "../../src/gateway/defaults.ts";
import { serviceOf } from "./fixture.ts";

const inputOf = (service: string, method = "call") => {
  const desc = serviceOf(service).method[method]?.input;
  if (desc === undefined) throw new Error(`the fixture has no ${service}.${method}`);
  return desc;
};

const desc = inputOf("DefaultsService");
const defaults = { text: "usual", flag: true, number: 100, color: "GREEN" };

function filled(init: Record<string, unknown>): JsonObject {
  const message = create(desc, init);
  createFillDefaults(desc)?.(message);
  return toJson(desc, message) as JsonObject;
}

test("sets absent fields to their declared defaults and changes nothing else", () => {
  expect(filled({})).toEqual(defaults);
});

test("keeps fields that are set, even to zero", () => {
  const given = { text: "", flag: false, number: 0, color: 0 };
  expect(filled(given)).toEqual({ ...given, color: "UNSPECIFIED" });
});

test.each([
  ["a field", { inner: {} }, { inner: defaults }],
  ["a list", { items: [{}, { flag: false }] }, { items: [defaults, { ...defaults, flag: false }] }],
  ["a map", { byName: { a: {} } }, { byName: { a: defaults } }],
  ["a oneof", { choice: { case: "one", value: {} } }, { one: defaults }],
  ["a oneof with another member", { choice: { case: "two", value: "x" } }, { two: "x" }],
  ["a nested message", { inner: { items: [{}] } }, { inner: { ...defaults, items: [defaults] } }],
])("fills the messages in %s", (_where, init, expected) => {
  expect(filled(init)).toEqual({ ...defaults, ...expected });
});

test("returns undefined for a message without defaults", () => {
  expect(createFillDefaults(inputOf("DefaultsService", "plain"))).toBeUndefined();
});

test.each(["ImplicitDefault.number", "UnknownDefault.color", "LongDefault.number"])(
  "refuses a default that the field cannot have: %s",
  (field) => {
    const [message = ""] = field.split(".");
    expect(() => createFillDefaults(inputOf(`${message}Service`))).toThrow(
      `default_value of fixture.${field}: must be a value of an optional field`,
    );
  },
);
