import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { parse } from "yaml";
import type { OpenApi } from "../../src/gateway/openapi/document.ts";
import { samplesOf } from "../../src/generate/sample.ts";

const { paths, components }: OpenApi = parse(readFileSync("gen/openapi.yaml", "utf8"));

test.each([
  [
    "put",
    "/admin/data/{tracecode}",
    [
      "curl -X PUT 'http://localhost/admin/data/11111111-2222-3333-4444-555555555555?username=my_username_for_login'",
      '-H "Authorization: Bearer $TOKEN"',
      "-H 'Content-Type: application/json'",
      "-d '{}'",
    ],
  ],
  [
    "get",
    "/admin/data/{tracecode}",
    ["curl -OJ http://localhost/admin/data/11111111-2222-3333-4444-555555555555", '-H "Authorization: Bearer $TOKEN"'],
  ],
  ["get", "/admin/report", ["curl -OJ http://localhost/admin/report", '-H "Authorization: Bearer $TOKEN"']],
  ["get", "/admin/users", ["curl http://localhost/admin/users", '-H "Authorization: Bearer $TOKEN"']],
] as const)("the curl sample of %s %s has every argument that the call needs", (verb, path, lines) => {
  const operation = paths[path]?.[verb];
  if (operation === undefined) throw new Error(`${verb} ${path} is not in the document`);
  const { curl } = samplesOf("http://localhost", verb.toUpperCase(), path, operation, components.schemas);
  expect(curl.split(" \\\n  ")).toEqual(lines);
});
