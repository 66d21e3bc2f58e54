import { readFileSync } from "node:fs";
import { Ajv2020 } from "ajv/dist/2020.js";
import addFormats from "ajv-formats";
import { afterAll, beforeAll, expect, test } from "vitest";
import { parse } from "yaml";
import { startTestApp, type TestApp } from "../support/app.ts";

/** JSON whose shape is not declared. */
type Json = ReturnType<typeof JSON.parse>;

const document: Json = parse(readFileSync("gen/openapi.yaml", "utf8"));
const ajv = new Ajv2020({ strict: false, validateFormats: true });
(addFormats as unknown as (instance: Ajv2020) => void)(ajv);
ajv.addSchema(document, "openapi");

test("every example of the OpenAPI document is valid against its schema", () => {
  const examples = examplesIn(document, []);
  const places = ["/parameters/", "/requestBody/", "/components/schemas/"];
  expect(places.filter((place) => examples.some(({ schema }) => schema.includes(place)))).toEqual(places);
  expect(examples.map(faultOf).filter((fault) => fault !== undefined)).toEqual([]);
});

let app: TestApp;
beforeAll(async () => {
  app = await startTestApp();
});
afterAll(() => app.stop());

test("the server accepts every example body of the OpenAPI document unchanged", async () => {
  const answers: Record<string, unknown> = {};
  const tokens = { admin: app.admin, user: "" };
  let lease = "";
  const send = async (operationId: string, token = tokens.admin, change: Json = {}) => {
    const { verb, path, body } = requestOf(operationId);
    const filled = path
      .replace("{lease_id}", lease)
      .replace("{key}", "my_company")
      .replace("{username}", "my_username_for_login");
    const answer = await app.http(verb, filled, { token, body: { ...body, ...change } });
    answers[operationId] = answer.status;
    return answer.body;
  };
  await send("create_company");
  await send("update_company");
  await send("patch_company");
  await send("create_user");
  await send("update_user");
  await send("update_quotas");
  await send("update_user_alert_thresholds");
  await send("update_company_alert_thresholds");
  tokens.user = (await send("create_token")).token;
  // The document shows a placeholder in capitals, which the reader replaces with a token.
  await send("validate_token", tokens.admin, { token: tokens.user });
  lease = (await send("acquire_quota")).lease.lease_id;
  await send("check_quota");
  await send("renew_lease");
  await send("settle_lease");
  await send("batch_settle_leases");
  const { decisions } = await send("batch_acquire_quota");
  lease = decisions[0].granted.lease.lease_id;
  await send("release_lease");
  lease = decisions[1].granted.lease.lease_id;
  await send("force_release_lease");
  const { actions } = requestOf("record_actions").body;
  // The audit log accepts actions younger than AUDIT_RETENTION_DAYS only. The page replaces the time by the present one.
  await send("record_actions", tokens.admin, { actions: [{ ...actions[0], time: new Date().toISOString() }] });
  await send("update_password", tokens.user);
  await send("patch_user");
  expect(Object.entries(answers).filter(([, status]) => Number(status) >= 300)).toEqual([]);
  expect(Object.keys(answers).toSorted()).toEqual(operationsWithBody().toSorted());
});

/** The ids of operations with a JSON body, without /account: its bodies equal those of /admin. */
function operationsWithBody(): string[] {
  return operations()
    .filter(({ path, operation }) => !path.startsWith("/account/") && bodyOf(operation) !== undefined)
    .map(({ operation }) => operation.operationId);
}

function requestOf(operationId: string): { verb: string; path: string; body: Json } {
  const found = operations().find(({ operation }) => operation.operationId === operationId);
  const { verb, path, operation } = found ?? { verb: "", path: "", operation: {} };
  return { verb: verb.toUpperCase(), path, body: bodyOf(operation)?.example };
}

function operations(): { verb: string; path: string; operation: Json }[] {
  return Object.entries<Json>(document.paths).flatMap(([path, item]) =>
    Object.entries<Json>(item).map(([verb, operation]) => ({ verb, path, operation })),
  );
}

/** Returns the schema of the JSON body, with its example. Undefined for an operation without one. */
function bodyOf(operation: Json): Json {
  const schema = operation.requestBody?.content["application/json"]?.schema;
  return schema?.$ref === undefined ? schema : document.components.schemas[schema.$ref.split("/").at(-1)];
}

interface Example {
  /** A JSON pointer to the schema. */
  readonly schema: string;
  readonly value: Json;
}

function examplesIn(node: Json, path: readonly string[]): Example[] {
  if (typeof node !== "object" || node === null) return [];
  // A parameter or a body may have `example`, or `examples` by name, beside its schema.
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
