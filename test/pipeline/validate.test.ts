import { type DescField, type DescMessage, fromJson, type JsonValue, ScalarType } from "@bufbuild/protobuf";
import { isWrapperDesc } from "@bufbuild/protobuf/wkt";
import { expect, test } from "vitest";
import { RecordActionsRequestSchema } from "#gen/tollgate/v1/audit_pb.js";
import { PutDataRequestSchema } from "#gen/tollgate/v1/data_pb.js";
import { CreateUserRequestSchema, DeleteUserRequestSchema } from "#gen/tollgate/v1/user_pb.js";
import { createValidate } from "../../src/pipeline/validate.ts";
import { everyService } from "../support/services.ts";

const validate = createValidate();

test.each([
  {
    desc: DeleteUserRequestSchema,
    json: { username: "anna:" },
    violation: ["username", "must contain only letters (a to z, A to Z), digits and underscores"],
  },
  { desc: CreateUserRequestSchema, json: {}, violation: ["user", "must be set"] },
  { desc: RecordActionsRequestSchema, json: {}, violation: ["actions", "must have at least 1 item"] },
  { desc: PutDataRequestSchema, json: { sha256: "x" }, violation: ["sha256", "must be 64 hexadecimal digits"] },
  {
    desc: PutDataRequestSchema,
    json: { filename: "a/b" },
    violation: ["filename", "must not contain control characters, slashes or backslashes"],
  },
  {
    desc: RecordActionsRequestSchema,
    json: { actions: [{ outcome: 77 }] },
    violation: ["actions[0].outcome", "must be one of SUCCESS, FAILURE, CANCELLED"],
  },
  {
    desc: RecordActionsRequestSchema,
    json: { actions: [{ service: "ADMIN" }] },
    violation: ["actions[0].service", expect.stringMatching(/^must be one of (?!.*(UNSPECIFIED|ADMIN))/)],
  },
  {
    desc: RecordActionsRequestSchema,
    json: { actions: [{ tracecode: "" }] },
    violation: ["actions[0].tracecode", "must be a valid UUID"],
  },
])("$desc.name $json: $violation", ({ desc, json, violation }) => {
  const violations = validate(desc, fromJson(desc, json)).map(({ field, message }) => [field, message]);
  expect(violations).toContainEqual(violation);
});

// A new pattern without words fails here: its rule cannot be evaluated.
test.each((await everyRequest()).map((desc) => ({ name: desc.typeName, desc })))(
  "states the rules of $name in words",
  ({ desc }) => {
    const wrong = [{}, ...desc.fields.flatMap((field) => wrongValues(field).map((value) => ({ [field.name]: value })))];
    for (const json of wrong) {
      const messages = new Set(validate(desc, fromJson(desc, json)).map(({ message }) => message));
      for (const message of messages) {
        expect(message).toMatch(/^must /);
        // No regular expression, no numbers of enum values, no "item(s)".
        expect(message).not.toMatch(/regex|in list|\(s\)|[\\^$`[\]{}]/);
      }
    }
  },
);

/** Every message that a request is, or contains. */
async function everyRequest(): Promise<DescMessage[]> {
  const found = new Set<DescMessage>();
  const add = (desc: DescMessage) => {
    if (found.has(desc) || desc.typeName.startsWith("google.")) return;
    found.add(desc);
    for (const { message } of desc.fields) if (message !== undefined) add(message);
  };
  for (const { methods } of await everyService()) for (const { input } of methods) add(input);
  return [...found];
}

/** The JSON of values that break each kind of rule. */
function wrongValues(field: DescField): JsonValue[] {
  const values = wrongItems(field);
  if (field.fieldKind !== "list") return values;
  return [[], ...values.flatMap((value) => [[value, value], Array.from({ length: 2_000 }, () => value)])];
}

function wrongItems(field: DescField): JsonValue[] {
  if (field.fieldKind === "map") return [];
  if (field.enum !== undefined) return [0, 99];
  if (field.message !== undefined) {
    const value = isWrapperDesc(field.message) ? field.message.fields[0] : undefined;
    return value === undefined ? [] : wrongItems(value);
  }
  switch (field.scalar) {
    case ScalarType.STRING:
      return ["", "a:/\\\u0001", "x".repeat(100_000)];
    case ScalarType.UINT32:
      return [0, 4_294_967_295];
    case ScalarType.INT32:
      return [-2_147_483_648, 2_147_483_647];
    case ScalarType.UINT64:
      return ["0", "18446744073709551615"];
    case ScalarType.DOUBLE:
      return [-1e300, 1e300, "NaN"];
    case undefined:
    default:
      return [];
  }
}
