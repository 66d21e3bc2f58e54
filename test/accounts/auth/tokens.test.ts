import { expect, test } from "vitest";
import { createTokens } from "../../../src/accounts/auth/tokens.ts";

const claims = { userId: 7, tokenVersion: 3 };
const [old, next] = ["the-old-secret-of-thirty-two-characters", "the-next-secret-of-thirty-two-characters"];

test("a token stays valid as long as its secret is listed", async () => {
  const token = await createTokens([old], Date.now).sign(claims, 60);
  expect(await createTokens([old, next], Date.now).verify(token)).toMatchObject(claims);
  expect(await createTokens([next, old], Date.now).verify(token)).toMatchObject(claims);
  expect(await createTokens([next], Date.now).verify(token)).toBeUndefined();
});

test("signs with the first secret", async () => {
  const token = await createTokens([next, old], Date.now).sign(claims, 60);
  expect(await createTokens([next], Date.now).verify(token)).toMatchObject(claims);
});

test("a token expires to the second", async () => {
  let now = 1_000_000_000_000;
  const tokens = createTokens([old], () => now);
  const token = await tokens.sign(claims, 60);
  now += 59_000;
  expect(await tokens.verify(token)).toMatchObject(claims);
  now += 1000;
  expect(await tokens.verify(token)).toBeUndefined();
});
