import { readdirSync, readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { HttpError, type HttpReason } from "../../src/gateway/errors.ts";
import { reasons } from "../../src/shared/reasons.ts";

const names = Object.keys(reasons);
/** The sources without the table, the generator of its page, and the union type that repeats some of its names. */
const sources = readdirSync("src", { recursive: true, encoding: "utf8" })
  .filter((path) => path.endsWith(".ts") && !/^(shared\/reasons\.ts|generate\/|client\/)/.test(path))
  .map((path) => ({ path, text: readFileSync(`src/${path}`, "utf8").replaceAll(/^ {2}\| "[A-Z_0-9]+".*$/gm, "") }));
const all = sources.map(({ text }) => text).join("\n");

test("the source produces every reason of the table", () => {
  expect(names.filter((name) => !all.includes(`"${name}"`) && !byCode.includes(name))).toEqual([]);
});

/** Reasons that the table assigns to the errors of the protocol libraries, by code. */
const byCode = [...readFileSync("src/shared/reasons.ts", "utf8").matchAll(/^ {2}\[[\w.]+, "([A-Z_]+)"\],$/gm)].map(
  ([, name]) => name,
);

test("the table lists every reason that the source produces", () => {
  const makers = "callError|conflict|errorInfo|forbidden|plain|refusal|tooMany|unauthenticated|unavailable|HttpError";
  const produced = [...all.matchAll(new RegExp(`\\b(?:${makers})\\(\\s*"([A-Z][A-Z0-9_]+)"`, "g"))].map(
    ([, name]) => name ?? "",
  );
  expect(produced.length).toBeGreaterThan(40);
  expect(produced.filter((name) => !names.includes(name))).toEqual([]);
});

test("only the files that give an error its reason construct a ConnectError", () => {
  const makers = sources.filter(({ text }) => text.includes("new ConnectError(")).map(({ path }) => path);
  expect(makers.toSorted()).toEqual([
    "call/errors.ts",
    // Converts errors of libraries. shared/errors.ts gives them a reason.
    "call/library-errors.ts",
    // Writes trailers with Connect's functions.
    "grpc/trailers.ts",
    // Copies a known error for each item of a batch.
    "pipeline/item-errors.ts",
    "quotas/leases/refusal.ts",
    "shared/errors.ts",
    // Gives a reason to errors that Connect itself makes.
    "transport/connect-errors.ts",
  ]);
});

test("docs/errors.md lists each reason with its status, its cause and its cure", () => {
  const page = readFileSync("docs/errors.md", "utf8");
  for (const [name, { status, cause, cure }] of Object.entries(reasons)) {
    const [, section = ""] = page.split(`\n## ${name}\n`);
    expect(section.split("\n## ", 1)[0]).toContain(`HTTP ${status}`);
    expect(section).toContain(`${cause}\n\n${cure}\n`);
  }
});

test("errors of the gateway have the status and code of the table", () => {
  const gatewayReasons: HttpReason[] = [
    "MALFORMED_HTTP",
    "HTTP_METHOD_UNKNOWN",
    "NO_SUCH_PATH",
    "HTTP_METHOD_NOT_ALLOWED",
    "BODY_TOO_SLOW",
    "PRECONDITION_FAILED",
    "TOO_LARGE",
    "UNSUPPORTED_MEDIA_TYPE",
    "HTTP_VERSION_NOT_SUPPORTED",
  ];
  for (const reason of gatewayReasons) {
    const { status, code } = new HttpError(reason, "");
    expect({ status, code }).toMatchObject({ status: reasons[reason].status, code: reasons[reason].code });
  }
});
