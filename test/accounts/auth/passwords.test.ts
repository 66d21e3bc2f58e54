import { expect, test } from "vitest";
import { createPasswords } from "../../../src/accounts/auth/passwords.ts";

test("a hash is argon2id, has its own salt and verifies only its password", async () => {
  const passwords = await createPasswords();
  const [first, second] = await Promise.all([passwords.hash("secret"), passwords.hash("secret")]);
  expect(first).toMatch(/^\$argon2id\$v=19\$m=19456,t=2,p=1\$/);
  expect(first).not.toBe(second);
  expect(await passwords.verify("secret", first)).toBe(true);
  expect(await passwords.verify("Secret", first)).toBe(false);
});

test("refuses every password when there is no hash, in the time of a real verification", async () => {
  const passwords = await createPasswords({ concurrency: 1 });
  const stored = await passwords.hash("secret");
  const time = async (hash: string | null) => {
    const start = performance.now();
    for (let round = 0; round < 8; round += 1) expect(await passwords.verify("wrong", hash)).toBe(false);
    return performance.now() - start;
  };
  await time(null);
  const [unknown, known] = [await time(null), await time(stored)];
  // A look-up without a hash takes a thousandth of this; a noisy machine stays well within the factor.
  expect(unknown / known).toBeGreaterThan(0.3);
  expect(unknown / known).toBeLessThan(3);
});

test("refuses to hash a new password when the queue is full", async () => {
  const passwords = await createPasswords({ concurrency: 1, queue: 2 });
  const outcomes = await Promise.allSettled(Array.from({ length: 10 }, () => passwords.hash("secret")));
  expect(outcomes.filter(({ status }) => status === "fulfilled").length).toBe(3);
  const refused = outcomes.find((outcome) => outcome.status === "rejected");
  expect(String(refused?.reason)).toContain("too many passwords are set at once");
});
