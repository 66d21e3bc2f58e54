import type { Content, Operation } from "../gateway/openapi/document.ts";
import type { Schema } from "../gateway/openapi/rules.ts";

/** The named schemas of a document. */
export type Components = Readonly<Record<string, Schema>>;

/** Returns the schema that a reference names, with the keywords beside the reference. Returns other schemas unchanged. */
export function resolve(schema: Schema, components: Components): Schema {
  const name = referenceOf(schema);
  if (name === undefined) return schema;
  const { $ref: _, ...beside } = schema;
  return { ...components[name], ...beside };
}

/** Returns the name of the component that a schema refers to. */
export function referenceOf({ $ref }: Schema): string | undefined {
  return typeof $ref === "string" ? $ref.split("/").at(-1) : undefined;
}

/**
 * Returns a value of the schema: its example, its default, or a value of its type. A string without either is its name in
 * capitals, for the reader to replace.
 * @param extent "required" leaves out optional fields
 */
export function sampleOf(schema: Schema, components: Components, extent: "whole" | "required", name = "text"): unknown {
  const { example, examples, default: fallback, enum: names, type, ...rest } = resolve(schema, components);
  if (example !== undefined) return example;
  if (Array.isArray(examples)) return examples[0];
  if (fallback !== undefined) return fallback;
  if (Array.isArray(names)) return names[0];
  switch (type) {
    case "boolean":
      return true;
    case "integer":
    case "number":
      return rest.minimum ?? 0;
    case "array":
      return rest.items === undefined ? [] : [sampleOf(rest.items as Schema, components, extent, name)];
    case "string":
      return rest.format === "date-time" ? "2024-02-21T09:30:00Z" : name.toUpperCase();
    default:
      return sampleOfObject(rest, components, extent);
  }
}

/**
 * One call in the languages of the page. A pasted sample runs if TOKEN is set in the environment. An operation on a lease
 * also needs LEASE_ID, because only a server creates lease ids.
 */
export interface Samples {
  readonly curl: string;
  readonly typescript: string;
  readonly python: string;
}

/** Creates the samples of an operation with the example values of its fields. */
export function samplesOf(
  url: string,
  verb: string,
  path: string,
  operation: Operation,
  components: Components,
): Samples {
  const { parameters = [], requestBody, responses, security } = operation;
  const textOf = ({ name, schema }: (typeof parameters)[number]) =>
    encodeURIComponent(String(sampleOf(schema, components, "required", name)));
  const filled = parameters
    .filter((one) => one.in === "path" && one.name !== "lease_id")
    .reduce((text, one) => text.replace(`{${one.name}}`, textOf(one)), path);
  const query = parameters
    .filter((one) => one.in === "query" && one.required === true)
    .map((one) => `${one.name}=${textOf(one)}`);
  const schema = requestBody?.content["application/json"]?.schema;
  const call: SampleCall = {
    verb,
    url: `${url}${[filled, ...query].join("?")}`,
    withToken: security === undefined,
    body: requestBody && JSON.stringify(schema === undefined ? {} : sampleOf(schema, components, "required")),
    isFile: isFile(responses["200"]?.content),
  };
  return { curl: curlOf(call), typescript: typescriptOf(call), python: pythonOf(call) };
}

interface SampleCall {
  readonly verb: string;
  readonly url: string;
  readonly withToken: boolean;
  /** JSON text. */
  readonly body: string | undefined;
  /** Whether the answer is a file, which the sample saves. */
  readonly isFile: boolean;
}

function curlOf({ verb, url, withToken, body, isFile: savesFile }: SampleCall): string {
  return [
    `curl${verb === "GET" ? "" : ` -X ${verb}`}${savesFile ? " -OJ" : ""} ${urlInShell(url)}`,
    ...(withToken ? [authorization] : []),
    ...(body === undefined ? [] : ["-H 'Content-Type: application/json'", `-d ${quote(body)}`]),
  ].join(" \\\n  ");
}

function typescriptOf({ verb, url, withToken, body, isFile: savesFile }: SampleCall): string {
  const headers = [
    ...(withToken ? ["Authorization: `Bearer ${process.env.TOKEN}`"] : []),
    ...(body === undefined ? [] : [`"Content-Type": "application/json"`]),
  ];
  const options = [
    ...(verb === "GET" ? [] : [`  method: "${verb}",`]),
    ...(headers.length === 0 ? [] : [`  headers: { ${headers.join(", ")} },`]),
    ...(body === undefined ? [] : [`  body: JSON.stringify(${body}),`]),
  ];
  const argument = options.length === 0 ? "" : `, {\n${options.join("\n")}\n}`;
  const read = savesFile ? "(await answer.arrayBuffer()).byteLength" : "await answer.text()";
  const address = url.includes(leaseId) ? `\`${url.replace(leaseId, "${process.env.LEASE_ID}")}\`` : `"${url}"`;
  return `const answer = await fetch(${address}${argument});\nconsole.log(answer.status, ${read});`;
}

function pythonOf({ verb, url, withToken, body, isFile: savesFile }: SampleCall): string {
  const headers = [
    ...(withToken ? [`"Authorization": "Bearer " + os.environ["TOKEN"]`] : []),
    ...(body === undefined ? [] : [`"Content-Type": "application/json"`]),
  ];
  return [
    withToken ? "import os, urllib.request" : "import urllib.request",
    `call = urllib.request.Request("${url.replace(leaseId, '" + os.environ["LEASE_ID"] + "')}", method="${verb}")`,
    ...headers.map((header) => `call.add_header(${header.replace(": ", ", ")})`),
    // A JSON text is quoted by JSON once more: the result is a Python literal, too.
    ...(body === undefined ? [] : [`call.data = ${JSON.stringify(body)}.encode()`]),
    "answer = urllib.request.urlopen(call)",
    `print(answer.status, ${savesFile ? "len(answer.read())" : "answer.read().decode()"})`,
  ].join("\n");
}

/** Stands in a path for the id that the reader has from a server. */
const leaseId = "{lease_id}";

function urlInShell(url: string): string {
  return url.includes(leaseId) ? `"${url.replace(leaseId, "$LEASE_ID")}"` : quote(url);
}

/** Returns whether the content is a file: it has no schema. */
export function isFile(content: Content | undefined): boolean {
  if (content === undefined) return false;
  const json = content["application/json"];
  return json === undefined || Object.keys(json.schema).length === 0;
}

/** The option of curl and buf curl that sends the token. */
export const authorization = '-H "Authorization: Bearer $TOKEN"';

/** JSON as one word of a shell. */
export function quoteJson(value: unknown): string {
  return quote(JSON.stringify(value));
}

function quote(text: string): string {
  return /^[\w/:.%-]+$/.test(text) ? text : `'${text.replaceAll("'", String.raw`'\''`)}'`;
}

function sampleOfObject(schema: Schema, components: Components, extent: "whole" | "required"): unknown {
  const required = (schema.required ?? []) as string[];
  const properties = Object.entries((schema.properties ?? {}) as Record<string, Schema>);
  const shown = extent === "whole" ? properties : properties.filter(([name]) => required.includes(name));
  return Object.fromEntries(shown.map(([name, property]) => [name, sampleOf(property, components, extent, name)]));
}
