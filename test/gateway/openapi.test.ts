import { execFileSync } from "node:child_process";
import { cpSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createFileRegistry, fromBinary } from "@bufbuild/protobuf";
import { FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { expect, test } from "vitest";
import { createDocument } from "../../src/gateway/openapi/document.ts";

/** JSON whose shape a test does not declare. */
type Json = ReturnType<typeof JSON.parse>;

const registry = compile();
const { paths, components, tags, ...head }: Json = documentOf("BookService", "InnerService");
const bookSchema = components.schemas.book;
const parametersOf = (operation: Json) =>
  operation.parameters.map((parameter: Json) => [parameter.name, parameter.in, parameter.required ?? false]);

test("has the given info and servers, and a tag for each service with paths", () => {
  expect(head).toEqual({
    openapi: "3.1.0",
    info: {
      title: "Library",
      version: "2",
      description: "Books.",
      license: { name: "MIT", identifier: "MIT" },
      contact: { name: "Library" },
    },
    servers: [{ url: "http://library" }],
    security: [{ Key: [] }],
  });
  expect(components.securitySchemes).toEqual({ Key: { type: "http", scheme: "bearer" } });
  expect(tags).toEqual([{ name: "books", description: "About BookService" }]);
});

test("has an operation for each binding, except for HTTP methods that OpenAPI does not support", () => {
  const operations = Object.entries<Json>(paths).flatMap(([path, item]) =>
    Object.entries<Json>(item).map(([verb, { operationId }]) => `${verb} ${path} ${operationId}`),
  );
  expect(operations.toSorted()).toEqual([
    "delete /books/{title} burn_book",
    "get /books/{title}/scan scan_book",
    "get /shelves/{shelf.name}/books list_books",
    "post /books create_book",
    "post /books/{title}:move move_book",
    "put /books/{title} create_book_2",
  ]);
});

test("an operation has a tag, a description, a deprecation and a security requirement", () => {
  expect(paths["/books"].post).toMatchObject({ tags: ["books"], description: "About CreateBook", security: [] });
  expect(paths["/books"].post).not.toHaveProperty("deprecated");
  expect(paths["/books/{title}:move"].post.deprecated).toBe(true);
  expect(paths["/books/{title}:move"].post).not.toHaveProperty("security");
});

test("path and query parameters are listed, nested fields with dots", () => {
  expect(parametersOf(paths["/shelves/{shelf.name}/books"].get)).toEqual([
    ["shelf.name", "path", true],
    ["shelf.row", "query", false],
    ["shelf.room", "query", false],
    ["words", "query", false],
    ["genre", "query", false],
    ["order", "query", false],
    ["reader", "query", true],
  ]);
  expect(parametersOf(paths["/books/{title}:move"].post)).toEqual([
    ["title", "path", true],
    ["quietly", "query", false],
  ]);
  expect(paths["/books"].post).not.toHaveProperty("parameters");
});

test("a parameter has a description and a deprecation next to its schema", () => {
  const [, , , words, , order] = paths["/shelves/{shelf.name}/books"].get.parameters;
  expect(words).toEqual({
    name: "words",
    in: "query",
    description: "About words",
    schema: { type: "array", items: { type: "string" } },
  });
  expect(order).toEqual({
    name: "order",
    in: "query",
    description: "About order",
    deprecated: true,
    schema: { type: "string" },
  });
});

test("the request body is the message, the message without path parameters, or a field", () => {
  const schemaOf = ({ requestBody }: Json) => requestBody.content["application/json"].schema;
  expect(schemaOf(paths["/books"].post)).toEqual({ $ref: "#/components/schemas/book_request" });
  const rest = schemaOf(paths["/books/{title}"].put);
  expect(rest.required).toEqual(["copies"]);
  expect(Object.keys(rest.properties)).toEqual(Object.keys(bookSchema.properties).filter((name) => name !== "title"));
  expect(schemaOf(paths["/books/{title}:move"].post)).toMatchObject({ $ref: "#/components/schemas/shelf" });
  expect(paths["/books/{title}"].delete).not.toHaveProperty("requestBody");
});

test("responses are the success, a 404 for a missing resource, and errors", () => {
  const json = (name: string) => ({ "application/json": { schema: { $ref: `#/components/schemas/${name}` } } });
  expect(paths["/books"].post.responses).toEqual({
    "201": { description: "Created.", content: json("book") },
    ...Object.fromEntries(
      [400, 413, 415].map((status) => [status, { description: expect.any(String), content: json("failure") }]),
    ),
    default: { description: "Another error.", content: json("failure") },
  });
  expect(Object.keys(paths["/books/{title}:move"].post.responses)).toEqual(expect.arrayContaining(["401", "403"]));
  expect(paths["/books/{title}:move"].post.responses["404"].content).toEqual(json("missing"));
  expect(paths["/books/{title}"].delete.responses["204"]).not.toHaveProperty("content");
});

test("the response of a stream of pages is the merged page", () => {
  const { content } = paths["/shelves/{shelf.name}/books"].get.responses["200"];
  expect(content["application/json"].schema).toEqual({ $ref: "#/components/schemas/list_books_response" });
  expect(content["text/csv"].schema).toEqual({ type: "string" });
});

test("a file has a text or binary schema for each media type", () => {
  expect(paths["/books/{title}/scan"].get.responses["200"].content).toEqual({
    "application/json": { schema: {} },
    "image/png": { schema: { type: "string", format: "binary" } },
    "text/html": { schema: { type: "string" } },
  });
});

test("each used message is a component with its example", () => {
  const names = ["book", "book_request", "failure", "list_books_response", "missing", "shelf"];
  expect(Object.keys(components.schemas)).toEqual(names);
  expect(bookSchema).toMatchObject({ type: "object", description: "About Book", example: { title: "Emma" } });
});

test("response schemas require fields that are always written, request schemas REQUIRED fields", () => {
  expect(components.schemas.book_request.required).toEqual(["title", "copies"]);
  // A time, a duration, a struct and the members of a oneof are absent when they are not set.
  const optional = ["printed", "reading", "notes", "room", "floor"];
  expect(Object.keys(bookSchema.properties).filter((name) => !bookSchema.required.includes(name))).toEqual(optional);
});

test("the example of a body leaves out path parameters", () => {
  const { schema } = paths["/books/{title}"].put.requestBody.content["application/json"];
  expect(schema.example).toEqual({});
});

test.each<[string, Json]>([
  ["title", { type: "string", minLength: 1, maxLength: 99, pattern: "^\\w+$", examples: ["Emma"] }],
  ["subtitle", { type: ["string", "null"], maxLength: 9, default: null }],
  ["genre", { type: "string", enum: ["NOVEL", "POETRY"] }],
  ["shown_genre", { type: "string", enum: ["UNKNOWN", "NOVEL", "POETRY"], default: "UNKNOWN" }],
  ["usual_genre", { type: "string", enum: ["UNKNOWN", "NOVEL", "POETRY"], default: "POETRY" }],
  ["few", { type: "string", enum: ["NOVEL"] }],
  ["pages", { type: "integer", format: "int32", minimum: 0, exclusiveMaximum: 5000, default: 0 }],
  ["copies", { type: "integer", minimum: 0 }],
  ["sold", { type: ["integer", "string"], pattern: "^-?[0-9]+$", default: 0 }],
  ["weight", { type: "number", exclusiveMinimum: 0, default: 0 }],
  ["lent", { type: "boolean", default: true }],
  ["lost", { type: "boolean", default: false }],
  ["mail", { type: "string", format: "email" }],
  ["code", { type: "string", format: "uuid" }],
  ["no_mail", { type: "string" }],
  ["day", { type: "string", format: "date" }],
  ["language", { type: "string", enum: ["en", "de"] }],
  [
    "genres",
    {
      type: "array",
      minItems: 1,
      maxItems: 2,
      uniqueItems: true,
      items: { type: "string", enum: ["NOVEL", "POETRY"] },
    },
  ],
  ["sequels", { type: "array", uniqueItems: true, items: { $ref: "#/components/schemas/book" } }],
  ["sales", { type: "object", maxProperties: 12, additionalProperties: { type: "integer", minimum: 0, maximum: 7 } }],
  ["printed", { type: "string", format: "date-time" }],
  ["reading", { type: "string", pattern: expect.stringContaining("P") }],
  ["notes", { type: "object" }],
  ["cover", { type: "string", contentEncoding: "base64" }],
  ["old_code", { type: "string", deprecated: true }],
  ["room", { type: ["string", "null"] }],
  ["floor", { type: "integer", format: "int32" }],
])("the schema of the field %s has its type, rules and default", (name, schema) => {
  expect(bookSchema.properties[name]).toEqual({ description: `About ${name}`, ...schema });
});

test("refuses two messages, paths or operations with one name", () => {
  expect(() => documentOf("TwoSchemas")).toThrow(
    "library.Other.Book and library.Book must not share the schema name book",
  );
  expect(() => documentOf("TwoOperations")).toThrow("get /x/{name} must be bound once");
  expect(() => documentOf("BookService", "OneName")).toThrow("create_book must be the name of one operation");
});

function documentOf(...services: string[]) {
  return createDocument(
    services.map((name) => existing(registry.getService(`library.${name}`))),
    {
      info: {
        title: "Library",
        version: "2",
        description: "Books.",
        license: { name: "MIT", identifier: "MIT" },
        contact: { name: "Library" },
      },
      servers: [{ url: "http://library" }],
      security: { name: "Key", scheme: { type: "http", scheme: "bearer" } },
      isPublic: ({ name }) => name === "CreateBook",
      needsRole: () => true,
      error: existing(registry.getMessage("library.Failure")),
      notFound: existing(registry.getMessage("library.Missing")),
      describe: (desc) => ("name" in desc ? `About ${desc.name}` : ""),
    },
  );
}

function existing<T>(value: T | undefined): T {
  if (value === undefined) throw new Error("the fixture has no such declaration");
  return value;
}

function compile() {
  const folder = mkdtempSync(join(tmpdir(), "openapi-fixture-"));
  try {
    for (const name of ["google", "gateway", "buf"]) cpSync(`proto/${name}`, join(folder, name), { recursive: true });
    cpSync("test/gateway/openapi.proto", join(folder, "openapi.proto"));
    const image = execFileSync("node_modules/.bin/buf", ["build", folder, "--as-file-descriptor-set", "-o", "-"]);
    return createFileRegistry(fromBinary(FileDescriptorSetSchema, image));
  } finally {
    rmSync(folder, { recursive: true });
  }
}
