import { Code } from "@connectrpc/connect";
import { expect, test } from "vitest";
import { httpStatusOf } from "../../src/gateway/status.ts";

test.each([
  [Code.InvalidArgument, 400],
  [Code.FailedPrecondition, 400],
  [Code.Unauthenticated, 401],
  [Code.PermissionDenied, 403],
  [Code.NotFound, 404],
  [Code.AlreadyExists, 409],
  [Code.Aborted, 409],
  [Code.ResourceExhausted, 429],
  [Code.Canceled, 499],
  [Code.Unimplemented, 501],
  [Code.Unavailable, 503],
  [Code.DeadlineExceeded, 504],
])("the code %i is the status %i", (code, status) => {
  expect(httpStatusOf(code)).toBe(status);
});

test("every code has a status of an error", () => {
  const codes = Object.values(Code).filter((code) => typeof code === "number");
  expect(codes).toHaveLength(16);
  for (const code of codes) expect(httpStatusOf(code)).toBeGreaterThanOrEqual(400);
});
