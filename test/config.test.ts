import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { readConfig, settings } from "../src/config.ts";

const keys = "a-secret-for-tests-that-is-long-enough";

test("an empty environment gives the defaults", () => {
  expect(readConfig({})).toMatchObject({
    PORT: 8080,
    HOST: "0.0.0.0",
    DATABASE_URL: "",
    TOKEN_KEYS: [],
    LOG_LEVEL: "info",
  });
});

test("an empty variable counts as absent", () => {
  expect(readConfig({ PORT: "", LOG_LEVEL: "" })).toMatchObject({ PORT: 8080, LOG_LEVEL: "info" });
});

test.each<[Record<string, string>, string]>([
  [{ PORT: "eighty" }, "PORT"],
  [{ PORT: "65536" }, "PORT"],
  [{ PORT: " " }, "PORT"],
  [{ PORT: "0x10" }, "PORT"],
  [{ DATABASE_POOL: "4" }, "DATABASE_POOL"],
  [{ DATABASE_URL: "mysql://x", TOKEN_KEYS: keys }, "DATABASE_URL"],
  [{ DATABASE_URL: "postgres://x" }, "TOKEN_KEYS"],
  [{ WORKERS: "0" }, "WORKERS"],
  [{ WORKERS: "2", DATABASE_URL: "postgres://x", TOKEN_KEYS: keys }, "WORKERS"],
  [{ REDIS_URL: "http://x" }, "REDIS_URL"],
  [{ REDIS_URL: "redis+sentinel://one" }, "REDIS_URL"],
  [{ REDIS_URL: "redis://:%ff@one" }, "REDIS_URL"],
  [{ ADMIN_COMPANY: "no" }, "ADMIN_COMPANY"],
  [{ QUOTA_DEFAULT: "all" }, "QUOTA_DEFAULT"],
  [{ SERVER_NAME: "x".repeat(257) }, "SERVER_NAME"],
  [{ QUOTA_FAIL_OPEN: "yes" }, "QUOTA_FAIL_OPEN"],
  [{ LEDGER_ACK: "never" }, "LEDGER_ACK"],
  [{ TOKEN_KEYS: `${keys},short` }, "TOKEN_KEYS"],
  [{ ADMIN_USERNAME: "a b" }, "ADMIN_USERNAME"],
  [{ ADMIN_PASSWORD: "1234" }, "ADMIN_PASSWORD"],
  [{ TLS_CERT: "cert.pem" }, "TLS_CERT and TLS_KEY"],
  [{ LOG_LEVEL: "loud" }, "LOG_LEVEL"],
  [{ LOG_FORMAT: "xml" }, "LOG_FORMAT"],
  [{ CORS_ORIGINS: "https://app.example.com/" }, "CORS_ORIGINS"],
  [{ CORS_ORIGINS: "https://app.example.com,app.example.com" }, "CORS_ORIGINS"],
  [{ CORS_ORIGINS: "null" }, "CORS_ORIGINS"],
  [{ DRAIN_MS: "-1" }, "DRAIN_MS"],
  [{ WEBHOOK_URL: "https://x" }, "WEBHOOK_URL and WEBHOOK_SECRET"],
  [{ WEBHOOK_SECRET: `whsec_${"a".repeat(32)}` }, "WEBHOOK_URL and WEBHOOK_SECRET"],
  [{ AUDIT_SINK_URL: "https://x" }, "AUDIT_SINK_URL and AUDIT_SINK_SECRET"],
  [{ AUDIT_SINK_URL: "http://example.com" }, "AUDIT_SINK_URL"],
  [{ AUDIT_SINK_URL: "https://user:password@example.com" }, "AUDIT_SINK_URL"],
  [{ WEBHOOK_URL: "http://example.com" }, "WEBHOOK_URL"],
  [{ WEBHOOK_URL: "https://x", WEBHOOK_SECRET: "whsec_short" }, "WEBHOOK_SECRET"],
  [{ ALERT_THRESHOLDS: "80%,many" }, "ALERT_THRESHOLDS"],
  [{ BODY_TIMEOUT_MS: "60000" }, "BODY_TIMEOUT_MS"],
  [{ DATA_MAX_BYTES: "471859201" }, "DATA_MAX_BYTES"],
])("refuses %o in one line that begins with %s", (environment, name) => {
  const read = () => readConfig(environment);
  expect(read).toThrow(new RegExp(`^${name}: [^\\n]+$`));
  // The message states the rule in words, not in the terms of the validation library.
  expect(read).not.toThrow(/Invalid|Too (big|small)|[{}\\^]/);
});

test("the message that refuses a secret does not contain it", () => {
  const webhook = { WEBHOOK_URL: "https://x", WEBHOOK_SECRET: "a-short-secret" };
  expect(() => readConfig(webhook)).toThrow(/^((?!a-short-secret).)*$/);
  expect(() => readConfig({ TOKEN_KEYS: "a-short-secret" })).toThrow(/^((?!a-short-secret).)*$/);
});

test.each([
  ["short", "J8hsgQ2mZk0vYt4xLr7p", "must have 32 characters or more"],
  ["one repeated character", "k".repeat(64), "must have 10 different characters or more"],
  ["few characters", "abcabcbacbacbacbacbbacbacbabcbacbacba", "must have 10 different characters or more"],
  ["a repeated text", "0a8b7c6d5e4f3g0a8b7c6d5e4f3g0a8b7c6d", "must not repeat a shorter text"],
  ["a run", "abcdefghijklmnopqrstuvwxyz0123456789", "must not follow the order"],
  ["a placeholder", "Change_Me-J8hsgQ2mZk0vYt4xLr7pW3nB", "must not be a placeholder"],
])("refuses a token key that is %s", (_what, key, rule) => {
  expect(() => readConfig({ TOKEN_KEYS: `${keys},${key}` })).toThrow(`TOKEN_KEYS: each key ${rule}`);
});

test.each([
  "openssl rand -hex 32: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08".slice(22),
  "n4bQgYhMfWWaL+qgxVrQFaO/TxsrC4Is0V1sFbDwCgg=",
  "correct horse battery staple 1 and more",
])("accepts the token key %s", (key) => {
  expect(readConfig({ TOKEN_KEYS: key }).TOKEN_KEYS).toEqual([key]);
});

test("docs/configuration.md lists each setting in the order of the table", () => {
  const page = readFileSync("docs/configuration.md", "utf8");
  expect([...page.matchAll(/^\| `(\w+)` \|/gm)].map(([, name]) => name)).toEqual(Object.keys(settings));
});
