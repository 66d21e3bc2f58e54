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
const usual = { text: "usual", flag: true, number: 100, colour: "GREEN" };

function filled(init: Record<string, unknown>): JsonObject {
  const message = create(desc, init);
  createFillDefaults(desc)?.(message);
  return toJson(desc, message) as JsonObject;
}

test("what a message leaves out takes the default that its .proto declares, and nothing else changes", () => {
  expect(filled({})).toEqual(usual);
});

test("what a message has stays, even if it is the zero of its type", () => {
  const given = { text: "", flag: false, number: 0, colour: 0 };
  expect(filled(given)).toEqual({ ...given, colour: "UNSPECIFIED" });
});

test.each([
  ["a field", { inner: {} }, { inner: usual }],
  ["a list", { items: [{}, { flag: false }] }, { items: [usual, { ...usual, flag: false }] }],
  ["a map", { byName: { a: {} } }, { byName: { a: usual } }],
  ["a oneof", { choice: { case: "one", value: {} } }, { one: usual }],
  ["a oneof that holds another member", { choice: { case: "two", value: "x" } }, { two: "x" }],
  ["a message within a message", { inner: { items: [{}] } }, { inner: { ...usual, items: [usual] } }],
])("the messages of %s take theirs", (_where, init, expected) => {
  expect(filled(init)).toEqual({ ...usual, ...expected });
});

test("a message without defaults needs no filling", () => {
  expect(createFillDefaults(inputOf("DefaultsService", "plain"))).toBeUndefined();
});

test.each(["ImplicitDefault.number", "UnknownDefault.colour", "LongDefault.number"])(
  "a default that its field cannot have fails when it is prepared: %s",
  (field) => {
    const [message = ""] = field.split(".");
    expect(() => createFillDefaults(inputOf(`${message}Service`))).toThrow(
      `default_value of fixture.${field}: must be a value of an optional field`,
    );
  },
);
