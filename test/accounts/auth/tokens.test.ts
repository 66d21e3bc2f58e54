import { createHmac } from "node:crypto";
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

const now = 1_800_000_000_000;
const genuine = await createTokens([old], () => now).sign(claims, 60);
const [header = "", payload = "", signature = ""] = genuine.split(".");
const known = { header: decode(header), payload: decode(payload) };

test("the genuine token, put together again, is accepted", async () => {
  expect(await verify(encode(known.header, known.payload))).toMatchObject(claims);
});

test.each([
  ["no token", ""],
  ["two dots", ".."],
  ["no signature", `${header}.${payload}.`],
  ["two parts", `${header}.${payload}`],
  ["four parts", `${genuine}.${signature}`],
  ["five parts, as of an encrypted token", `${header}.${payload}.${signature}.${payload}.${signature}`],
  ["a part of the signature", genuine.slice(0, -1)],
  ["a longer signature", `${genuine}AAAA`],
  ["another signature", `${header}.${payload}.${signature.replace(/^./, (first) => (first === "A" ? "B" : "A"))}`],
  ["the signature of zeros", `${header}.${payload}.${"A".repeat(43)}`],
  ["another user", `${header}.${text({ ...known.payload, sub: "1" })}.${signature}`],
  ["a later expiry", `${header}.${text({ ...known.payload, exp: 9_999_999_999 })}.${signature}`],
  ["another token version", `${header}.${text({ ...known.payload, ver: 4 })}.${signature}`],
  ["the payload before the header", `${payload}.${header}.${signature}`],
  ["space before it", ` ${genuine}`],
  ["a line break within", genuine.replace(".", ".\n")],
  ["a NUL behind", `${genuine}\0`],
  ...["none", "None", "NONE", "nOnE", ""].flatMap((alg): [string, string][] => [
    [`the algorithm "${alg}" and no signature`, `${text({ ...known.header, alg })}.${payload}.`],
    [`the algorithm "${alg}" and the signature`, `${text({ ...known.header, alg })}.${payload}.${signature}`],
  ]),
  ...["HS384", "HS512"].map((alg): [string, string] => [
    `the right key and the algorithm ${alg}`,
    encode({ ...known.header, alg }, known.payload, { algorithm: alg.replace("HS", "sha") }),
  ]),
  ...["RS256", "ES256", "EdDSA", "dir", "A256KW"].map((alg): [string, string] => [
    `the algorithm ${alg}`,
    encode({ ...known.header, alg }, known.payload),
  ]),
  ["an empty key", encode(known.header, known.payload, { key: "" })],
  ["the key id as the key", encode(known.header, known.payload, { key: String(known.header["kid"]) })],
  ["another key", encode(known.header, known.payload, { key: next })],
  ["no key id", encode({ alg: "HS256" }, known.payload)],
  ["an unknown key id", encode({ ...known.header, kid: "000000000000" }, known.payload)],
  ["a path as the key id", encode({ ...known.header, kid: "../../../../dev/null" }, known.payload, { key: "" })],
  ["SQL as the key id", encode({ ...known.header, kid: "' union select 'a" }, known.payload, { key: "a" })],
  ["a key id that objects have", encode({ ...known.header, kid: "__proto__" }, known.payload)],
  ["a key id that is not text", encode({ ...known.header, kid: 1 }, known.payload)],
  [
    "a key of its own",
    encode({ ...known.header, kid: "own", jwk: { kty: "oct", k: "YQ" } }, known.payload, { key: "a" }),
  ],
  [
    "the address of a key",
    encode({ ...known.header, kid: "own", jku: "http://127.0.0.1:9/keys" }, known.payload, { key: "a" }),
  ],
  ["a critical header that is not known", encode({ ...known.header, crit: ["own"], own: 1 }, known.payload)],
  ["another issuer", encode(known.header, { ...known.payload, iss: "other" })],
  ["no issuer", encode(known.header, { ...known.payload, iss: undefined })],
  ["no user", encode(known.header, { ...known.payload, sub: undefined })],
  ["no expiry", encode(known.header, { ...known.payload, exp: undefined })],
  ["an expiry that is text", encode(known.header, { ...known.payload, exp: "9999999999" })],
  ["an expiry that has passed", encode(known.header, { ...known.payload, exp: now / 1000 })],
  ["a start in the future", encode(known.header, { ...known.payload, nbf: now / 1000 + 60 })],
  ["a payload that is a list", encode(known.header, [known.payload])],
  ["a header that is text", `${text("HS256")}.${payload}.${signature}`],
  ["text that is not base64", `${header}.!!!!.${signature}`],
  ["a million characters", "A".repeat(1_000_000)],
])("a token with %s is refused", async (_says, token) => {
  expect(await verify(token)).toBeUndefined();
});

function verify(token: string) {
  return createTokens([old], () => now).verify(token);
}

/** Signs by the definition of JWS (RFC 7515), without the library that verifies. */
function encode(head: unknown, body: unknown, { key = old, algorithm = "sha256" } = {}): string {
  const signed = `${text(head)}.${text(body)}`;
  return `${signed}.${createHmac(algorithm, key).update(signed).digest("base64url")}`;
}

function text(value: unknown): string {
  return Buffer.from(JSON.stringify(value)).toString("base64url");
}

function decode(part: string): Record<string, unknown> {
  return JSON.parse(Buffer.from(part, "base64url").toString());
}
