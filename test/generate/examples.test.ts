import { readFileSync } from "node:fs";
import { Ajv2020 } from "ajv/dist/2020.js";
import addFormats from "ajv-formats";
import { expect, test } from "vitest";
import { parse } from "yaml";

/** JSON that a test looks into without declaring its shape. */
type Json = ReturnType<typeof JSON.parse>;

const document: Json = parse(readFileSync("gen/openapi.yaml", "utf8"));
const ajv = new Ajv2020({ strict: false, validateFormats: true });
(addFormats as unknown as (one: Ajv2020) => void)(ajv);
ajv.addSchema(document, "openapi");

test("every example of the document is valid by the schema that it stands in", () => {
  const examples = examplesIn(document, []);
  const places = ["/parameters/", "/requestBody/", "/components/schemas/"];
  expect(places.filter((place) => examples.some(({ schema }) => schema.includes(place)))).toEqual(places);
  expect(examples.map(faultOf).filter((fault) => fault !== undefined)).toEqual([]);
});

interface Example {
  /** A JSON pointer to the schema. */
  readonly schema: string;
  readonly value: Json;
}

function examplesIn(node: Json, path: readonly string[]): Example[] {
  if (typeof node !== "object" || node === null) return [];
  // A parameter and a body may have examples beside their schema: one each, or by name.
  const schema = pointer("schema" in node ? [...path, "schema"] : path);
  const several = Array.isArray(node.examples)
    ? node.examples
    : Object.values<Json>(node.examples ?? {}).map(({ value }) => value);
  const own = [...several, ...("example" in node ? [node.example] : [])].map((value) => ({ schema, value }));
  const below = Object.entries<Json>(node).filter(([name]) => name !== "example" && name !== "examples");
  return [...own, ...below.flatMap(([name, child]) => examplesIn(child, [...path, name]))];
}

function pointer(path: readonly string[]): string {
  return path.map((part) => `/${encodeURIComponent(part.replaceAll("~", "~0").replaceAll("/", "~1"))}`).join("");
}

function faultOf({ schema, value }: Example): string | undefined {
  const validate = ajv.getSchema(`openapi#${schema}`);
  if (validate === undefined) return `${schema}: the schema cannot be read`;
  return validate(value) === true
    ? undefined
    : `${schema}: ${JSON.stringify(value)} ${ajv.errorsText(validate.errors)}`;
}
