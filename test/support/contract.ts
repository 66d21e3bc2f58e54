/** Compares an OpenAPI document with the contract, for what a caller can observe. */

type Json = unknown;
type JsonObject = { [key: string]: Json };

export interface Allowance {
  /** Statuses beyond the contract's, `update_company 404`. */
  readonly additionalStatuses: readonly string[];
  /** Intended differences, each by a part of its text. */
  readonly deliberate: readonly string[];
  /** Differences that are not built yet, each by a part of its text. */
  readonly pending: readonly string[];
}

/** Lists every difference as `path: contract X, generated Y`. Empty when the document conforms to the contract. */
export function differences(contract: JsonObject, generated: JsonObject, allowance: Allowance): string[] {
  const found: string[] = [];
  const paths = object(contract.paths);
  compare("security", contract.security, generated.security);
  const schemesOf = ({ components }: JsonObject) => object(components).securitySchemes;
  compare("components.securitySchemes", schemesOf(contract), schemesOf(generated));
  // An unused allowance would hide a later mistake of the same name.
  const unused = new Set(allowance.additionalStatuses);
  for (const [path, item] of Object.entries(paths)) {
    const built = object(generated.paths)[path];
    if (built === undefined) {
      found.push(`paths.${path}: missing`);
      continue;
    }
    const { parameters: shared = [], ...operations } = object(item);
    for (const [verb, operation] of Object.entries(operations)) {
      const actual = object(built)[verb];
      const at = `paths.${path}.${verb}`;
      if (actual === undefined) found.push(`${at}: missing`);
      else compareOperation(at, object(operation), array(shared), object(actual));
    }
  }
  const parts = [...allowance.deliberate, ...allowance.pending];
  for (const part of parts) if (!found.some((text) => text.includes(part))) unused.add(part);
  const open = found.filter((text) => !parts.some((part) => text.includes(part)));
  for (const allowed of unused) open.push(`${allowed}: is allowed, but there is no such difference`);
  return open;

  function compareOperation(at: string, expected: JsonObject, shared: Json[], actual: JsonObject): void {
    compare(`${at}.operationId`, expected.operationId, actual.operationId);
    compare(`${at}.tags`, expected.tags, actual.tags);
    compare(`${at}.security`, expected.security, actual.security);
    compareParameters(at, [...shared, ...array(expected.parameters ?? [])], array(actual.parameters ?? []));
    compareBody(at, expected.requestBody, actual.requestBody);
    compareResponses(at, String(expected.operationId), object(expected.responses), object(actual.responses));
  }

  function compareParameters(at: string, expected: Json[], actual: Json[]): void {
    const byName = (list: Json[], document: JsonObject) =>
      new Map(
        list
          .map((parameter) => resolve(parameter, document))
          .map((parameter) => [`${String(parameter.name)} in ${String(parameter.in)}`, parameter]),
      );
    const expectedByName = byName(expected, contract);
    const actualByName = byName(actual, generated);
    for (const name of new Set([...expectedByName.keys(), ...actualByName.keys()])) {
      const left = expectedByName.get(name);
      const right = actualByName.get(name);
      const place = `${at}.parameters.${name}`;
      if (left === undefined || right === undefined)
        found.push(`${place}: ${left === undefined ? "not in the contract" : "missing"}`);
      else {
        compare(`${place}.required`, left.required ?? false, right.required ?? false);
        compare(`${place}.deprecated`, left.deprecated ?? false, right.deprecated ?? false);
        compareSchema(`${place}.schema`, left.schema, right.schema, "equal");
      }
    }
  }

  function compareBody(at: string, expected: Json, actual: Json): void {
    if (expected === undefined || actual === undefined) {
      compare(`${at}.requestBody`, expected !== undefined, actual !== undefined);
      return;
    }
    compare(`${at}.requestBody.required`, object(expected).required, object(actual).required);
    compareContent(`${at}.requestBody`, object(expected), object(actual), "equal");
  }

  function compareResponses(at: string, operationId: string, expected: JsonObject, actual: JsonObject): void {
    for (const status of new Set([...Object.keys(expected), ...Object.keys(actual)])) {
      const place = `${at}.responses.${status}`;
      if (actual[status] === undefined) found.push(`${place}: missing`);
      else if (expected[status] === undefined && isCovered(status, expected, actual[status])) continue;
      else if (expected[status] === undefined) {
        const allowed = `${operationId} ${status}`;
        if (!allowance.additionalStatuses.includes(allowed)) found.push(`${place}: not in the contract`);
        unused.delete(allowed);
      } else compareContent(place, resolve(expected[status], contract), resolve(actual[status], generated), "more");
    }
  }

  /** Whether the contract's default response covers a 4xx status, or its 200 response a 206. */
  function isCovered(status: string, expected: JsonObject, actual: Json): boolean {
    const general = status === "206" ? expected["200"] : /^4\d\d$/.test(status) ? expected.default : undefined;
    if (general === undefined) return false;
    const before = found.length;
    compareContent(status, resolve(general, contract), resolve(actual, generated), "more");
    return found.splice(before).length === 0;
  }

  function compareContent(at: string, expected: JsonObject, actual: JsonObject, rule: "equal" | "more"): void {
    const expectedContent = object(expected.content ?? {});
    const actualContent = object(actual.content ?? {});
    // A file may have more types than the contract prints.
    const compared = Object.keys(actualContent).filter((type) => rule === "equal" || type in expectedContent);
    compare(`${at}.content`, Object.keys(expectedContent).toSorted(), compared.toSorted());
    for (const [type, media] of Object.entries(expectedContent)) {
      if (actualContent[type] !== undefined) {
        compareSchema(`${at}.${type}`, object(media).schema, object(actualContent[type]).schema, rule);
      }
    }
  }

  /** "more": a response may promise more than the contract, never less. */
  function compareSchema(at: string, expected: Json, actual: Json, rule: "equal" | "more"): void {
    const left = resolve(expected, contract);
    const right = resolve(actual, generated);
    for (const keyword of new Set([...Object.keys(left), ...Object.keys(right)])) {
      if (ignored.has(keyword) || keyword.startsWith("x-")) continue;
      const place = `${at}.${keyword}`;
      if (rule === "more" && left[keyword] === undefined) continue;
      if (keyword === "properties")
        compareProperties(place, object(left.properties ?? {}), object(right.properties ?? {}), rule);
      else if (keyword === "items") compareSchema(place, left.items ?? {}, right.items ?? {}, rule);
      else if (keyword === "required")
        compareRequired(place, array(left.required ?? []), array(right.required ?? []), rule);
      else if (keyword === "enum")
        compare(place, array(left.enum ?? []).toSorted(), array(right.enum ?? []).toSorted());
      else if (keyword === "type") compare(place, left.type, typeOf(right));
      else compare(place, left[keyword], right[keyword]);
    }
  }

  function compareProperties(at: string, expected: JsonObject, actual: JsonObject, rule: "equal" | "more"): void {
    for (const name of new Set([...Object.keys(expected), ...Object.keys(actual)])) {
      if (actual[name] === undefined) found.push(`${at}.${name}: missing`);
      else if (expected[name] !== undefined) compareSchema(`${at}.${name}`, expected[name], actual[name], rule);
      else if (rule === "equal") found.push(`${at}.${name}: not in the contract`);
    }
  }

  function compareRequired(at: string, expected: Json[], actual: Json[], rule: "equal" | "more"): void {
    const compared = rule === "more" ? actual.filter((name) => expected.includes(name)) : actual;
    compare(at, expected.toSorted(), compared.toSorted());
  }

  function compare(at: string, expected: Json, actual: Json): void {
    const [left, right] = [JSON.stringify(expected), JSON.stringify(actual)];
    if (left !== right) found.push(`${at}: contract ${left}, generated ${right}`);
  }
}

/** Returns the type; a 64-bit integer, which is a string beyond 2^53, counts as an integer. */
function typeOf({ type, pattern }: JsonObject): Json {
  const isLong = JSON.stringify(type) === '["integer","string"]' && pattern !== undefined;
  return isLong ? "integer" : type;
}

/** Keywords that do not change what a caller may send or receive. */
const ignored = new Set(["description", "example", "examples", "title"]);

/** Resolves $ref and allOf. */
function resolve(value: Json, document: JsonObject): JsonObject {
  const schema = object(value);
  if (typeof schema.$ref === "string") {
    const [, ...keys] = schema.$ref.split("/");
    const target = keys.reduce<Json>((within, key) => object(within)[key], document);
    const { $ref: _, ...beside } = schema;
    return merge(resolve(target, document), beside);
  }
  if (!Array.isArray(schema.allOf)) return schema;
  const { allOf, ...beside } = schema;
  return array(allOf)
    .map((part) => resolve(part, document))
    .reduce(merge, beside);
}

function merge(first: JsonObject, second: JsonObject): JsonObject {
  const merged = { ...first, ...second };
  if (first.properties !== undefined && second.properties !== undefined) {
    merged.properties = { ...object(first.properties), ...object(second.properties) };
  }
  if (first.required !== undefined && second.required !== undefined) {
    merged.required = [...array(first.required), ...array(second.required)];
  }
  return merged;
}

function object(value: Json): JsonObject {
  if (typeof value !== "object" || value === null || Array.isArray(value))
    throw new Error(`not an object: ${JSON.stringify(value)}`);
  return value as JsonObject;
}

function array(value: Json): Json[] {
  if (!Array.isArray(value)) throw new Error(`not a list: ${JSON.stringify(value)}`);
  return value;
}
