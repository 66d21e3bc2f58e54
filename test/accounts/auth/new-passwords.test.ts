import { beforeAll, expect, test } from "vitest";
import { createNewPasswords, type HashNewPassword } from "../../../src/accounts/auth/new-passwords.ts";

const hash = async (password: string) => `hash of ${password}`;
let strict: HashNewPassword;
beforeAll(async () => {
  strict = await createNewPasswords({ hash }, "strict");
});

test.each([
  ["the most common one", "123456", "must not be one of the most common passwords"],
  ["a common one, whatever the case", "PassWord", "must not be one of the most common passwords"],
  ["one far down the list", "snickers", "must not be one of the most common passwords"],
  ["one that contains the username", "my Anna_7 of today", "must not contain the username"],
])("the strict policy refuses %s", async (_what, password, message) => {
  await expect(strict({ username: "anna_7", password, field: "new_password" })).rejects.toThrow(
    `new_password: ${message}`,
  );
});

test("the strict policy accepts other passwords, and the basic policy accepts all", async () => {
  const given = { username: "anna", password: "correct horse", field: "password" };
  expect(await strict(given)).toBe("hash of correct horse");
  const basic = await createNewPasswords({ hash }, "basic");
  expect(await basic({ ...given, password: "123456" })).toBe("hash of 123456");
});
