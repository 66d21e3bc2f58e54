import { randomBytes } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { createPasswords } from "../src/accounts/auth/passwords.ts";
import { readConfig, settings } from "../src/config.ts";
import { isPublic } from "../src/pipeline/authorization.ts";
import { everyService } from "./support/services.ts";

// SECURITY.md says what the code does, where that can be checked without a server.

const page = readFileSync("SECURITY.md", "utf8");
const codeTexts = [...page.matchAll(/`([^`]+)`/g)].map(([, text = ""]) => text);
/** Texts such as `TLS_CERT` and `PASSWORD_POLICY=strict`. */
const named = codeTexts.flatMap((text) => {
  const [, name, value] = /^([A-Z][A-Z_]+)(?:=(.+))?$/.exec(text) ?? [];
  return name === undefined ? [] : [{ name, value }];
});

test("the page names settings that exist, with values that they accept", () => {
  expect(named.map(({ name }) => name)).toEqual(expect.arrayContaining(["TLS_CERT", "TRUSTED_PROXIES", "TOKEN_KEYS"]));
  const unknown = named.filter(({ name }) => !Object.hasOwn(settings, name));
  expect(unknown).toEqual([]);
  const values = named.filter(({ value }) => value !== undefined);
  expect(values).toContainEqual({ name: "PASSWORD_POLICY", value: "strict" });
  for (const { name, value } of values) expect(readConfig({ [name]: value })).toHaveProperty(name, value);
});

test("keys that are made as the page says are accepted", () => {
  expect(page).toContain("`openssl rand -base64 48`");
  const key = randomBytes(48).toString("base64");
  expect(readConfig({ TOKEN_KEYS: key }).TOKEN_KEYS).toEqual([key]);
});

test("the operations that answer without a token are those that the page lists", async () => {
  expect(page.replaceAll("\n", " ")).toContain(
    "Only health, version, documentation, server reflection, token generation and token validation answer without a token.",
  );
  const methods = (await everyService()).flatMap((service) => service.methods);
  const names = methods.filter(isPublic).map(({ parent, name }) => `${parent.name}.${name}`);
  expect(names.toSorted()).toEqual([
    "AuthService.CreateToken",
    "AuthService.ValidateToken",
    "SystemService.Check",
    "SystemService.File",
    "SystemService.Version",
  ]);
});

test("passwords are hashed as the page says, at the cost of production", async () => {
  expect(page).toContain("hashed with argon2id");
  const passwords = await createPasswords();
  expect(await passwords.hash("correct horse")).toMatch(/^\$argon2id\$v=19\$m=19456,t=2,p=1\$/);
});

test("the page links to files that exist", () => {
  const links = [...page.matchAll(/\]\(([^)#:]+)\)/g)].map(([, path = ""]) => path);
  expect(links).not.toEqual([]);
  expect(links.filter((path) => !existsSync(path))).toEqual([]);
});
