import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { parse } from "yaml";
import { operationReasons } from "../../src/generate/operation-reasons.ts";
import { reasons } from "../../src/shared/reasons.ts";

test("every reason of a resource is listed by an operation that exists and documents its status", () => {
  const { paths } = parse(readFileSync("gen/openapi.yaml", "utf8"));
  const operations = Object.values(paths as object).flatMap((item) => Object.values(item as object));
  const operationIds = operations.map(({ operationId }) => operationId);
  expect(Object.keys(operationReasons).filter((name) => !operationIds.includes(name))).toEqual([]);
  // Responses of 5xx are not documented per operation: the caller did not cause them.
  const undocumented = operations.flatMap(({ operationId, responses }) =>
    (operationReasons[operationId] ?? [])
      .filter((reason) => reasons[reason].status < 500 && !(String(reasons[reason].status) in responses))
      .map((reason) => `${operationId} ${reasons[reason].status} ${reason}`),
  );
  expect(undocumented).toEqual([]);
  const named = new Set(Object.values(operationReasons).flat());
  const resourceReasons = Object.keys(reasons).filter((name) =>
    /^(ACTION|COMPANY|USER|DATA|QUOTA|LEASE|OPERATION|PERIOD)_/.test(name),
  );
  expect(resourceReasons.filter((name) => !named.has(name as keyof typeof reasons))).toEqual([]);
});
