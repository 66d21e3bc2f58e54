import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { parse } from "yaml";
import { differences } from "./support/contract.ts";

const contract = () => parse(readFileSync("test/spec/admin-openapi.yaml", "utf8"));
const generated = () => parse(readFileSync("gen/openapi.yaml", "utf8"));

const allowance = {
  // An update of a missing company answers 404. The contract covers it by its default response only.
  additionalStatuses: ["update_company 404"],
  deliberate: [
    // The contract states in prose that a response may have no services.
    "/admin/quotas/{username}.get.responses.200.application/json.properties.base.properties.services.minItems",
    // The contract declares the body as an object and states its fields in prose.
    "/admin/users/{username}.patch.requestBody.application/json.properties",
  ],
  // Differences that are not built yet. The change that builds one removes its line.
  pending: [],
};

test("the generated document agrees with the contract", () => {
  const [first] = differences(contract(), generated(), allowance);
  expect(first).toBeUndefined();
});

test("every administrative operation of the generated document is in the contract", () => {
  const operations = ({ paths }: { paths: Record<string, object> }) =>
    Object.entries(paths)
      .filter(([path]) => path.startsWith("/admin/"))
      .flatMap(([path, item]) => Object.keys(item).map((verb) => `${verb} ${path}`));
  const inContract = operations(contract());
  const additional = [
    // The thresholds of quota alerts, which the contract does not have.
    ...["users/{username}", "companies/{key}"].flatMap((path) =>
      ["get", "put", "delete"].map((verb) => `${verb} /admin/${path}/alert-thresholds`),
    ),
    // Lets services without gRPC store the data that the contract's `read_data` reads.
    "put /admin/data/{tracecode}",
  ];
  expect(operations(generated()).filter((operation) => !inContract.includes(operation))).toEqual(additional);
});

test.each<[string, (document: ReturnType<typeof generated>) => void, string]>([
  [
    "a length",
    ({ components }) => void (components.schemas.user_request.properties.name.maxLength = 255),
    "paths./admin/users.post.requestBody.application/json.properties.name.maxLength: contract 256, generated 255",
  ],
  [
    "an enum's value",
    ({ components }) => void components.schemas.service_quota.properties.service.enum.pop(),
    "properties.services.items.properties.service.enum",
  ],
  [
    "a default",
    ({ components }) => void (components.schemas.create_token_request.properties.ttl_seconds.default = 60),
    "ttl_seconds.default: contract 86400, generated 60",
  ],
  ["a parameter", ({ paths }) => void paths["/admin/users"].get.parameters.pop(), "user_group in query: missing"],
  ["a status", ({ paths }) => delete paths["/admin/users"].post.responses["201"], "responses.201: missing"],
  [
    "a required field",
    ({ components }) => {
      const { user } = components.schemas;
      user.required = user.required.filter((name: string) => name !== "username");
    },
    'contract ["company_key","roles","username"]',
  ],
  [
    "the security of the document",
    (document) => void (document.security = []),
    'security: contract [{"ApiKeyAuth":[]}]',
  ],
  [
    "the security of one operation",
    ({ paths }) => void (paths["/admin/users"].get.security = []),
    "paths./admin/users.get.security: contract undefined, generated []",
  ],
  [
    "a security scheme",
    ({ components }) => void (components.securitySchemes.ApiKeyAuth.scheme = "basic"),
    "components.securitySchemes: contract",
  ],
  [
    "a status that the contract does not have",
    ({ paths }) => void (paths["/admin/users"].post.responses["409"] = {}),
    "responses.409: not in the contract",
  ],
  [
    "an allowed status that is missing",
    ({ paths }) => delete paths["/admin/companies"].put.responses["404"],
    "update_company 404: is allowed, but there is no such difference",
  ],
  [
    "a field of a response",
    ({ components }) => delete components.schemas.user.properties.email,
    "responses.201.application/json.properties.email: missing",
  ],
  ["a path", ({ paths }) => delete paths["/admin/quotas/{username}"], "paths./admin/quotas/{username}: missing"],
])("the comparison reports a difference in %s", (_what, plant, message) => {
  const planted = generated();
  plant(planted);
  expect(differences(contract(), planted, allowance).join("\n")).toContain(message);
});
