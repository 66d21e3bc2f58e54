import { readdirSync, readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { HttpError, type HttpReason } from "../../src/gateway/errors.ts";
import { reasons } from "../../src/shared/reasons.ts";

const names = Object.keys(reasons);
/** The sources without the table itself, its page, and the type that repeats some of its names. */
const sources = readdirSync("src", { recursive: true, encoding: "utf8" })
  .filter((path) => path.endsWith(".ts") && !/^(shared\/reasons\.ts|generate\/|client\/)/.test(path))
  .map((path) => ({ path, text: readFileSync(`src/${path}`, "utf8").replaceAll(/^ {2}\| "[A-Z_0-9]+".*$/gm, "") }));
const all = sources.map(({ text }) => text).join("\n");

test("every reason of the table is produced somewhere", () => {
  expect(names.filter((name) => !all.includes(`"${name}"`) && !byCode.includes(name))).toEqual([]);
});

/** Reasons of errors that the libraries of the protocols make. */
const byCode = [...readFileSync("src/shared/reasons.ts", "utf8").matchAll(/^ {2}\[[\w.]+, "([A-Z_]+)"\],$/gm)].map(
  ([, name]) => name,
);

test("every reason that is produced is in the table", () => {
  const makers = "callError|conflict|errorInfo|forbidden|plain|refusal|tooMany|unauthenticated|unavailable|HttpError";
  const produced = [...all.matchAll(new RegExp(`\\b(?:${makers})\\(\\s*"([A-Z][A-Z0-9_]+)"`, "g"))].map(
    ([, name]) => name ?? "",
  );
  expect(produced.length).toBeGreaterThan(40);
  expect(produced.filter((name) => !names.includes(name))).toEqual([]);
});

test("an error is made in the few places that give it a reason", () => {
  const makers = sources.filter(({ text }) => text.includes("new ConnectError(")).map(({ path }) => path);
  expect(makers.toSorted()).toEqual([
    "call/errors.ts",
    // Errors that libraries have made: they get a reason in shared/errors.ts.
    "call/library-errors.ts",
    // It writes trailers by Connect's code.
    "grpc/trailers.ts",
    "quotas/leases/refusal.ts",
    "shared/errors.ts",
    // Errors that Connect has made come without a reason, and get one there.
    "transport/connect-errors.ts",
  ]);
});

test("docs/errors.md lists each reason with its cause and its cure", () => {
  const page = readFileSync("docs/errors.md", "utf8");
  for (const [name, { status, cause, cure }] of Object.entries(reasons)) {
    const [, section = ""] = page.split(`\n## ${name}\n`);
    expect(section.split("\n## ", 1)[0]).toContain(`HTTP ${status}`);
    expect(section).toContain(`${cause}\n\n${cure}\n`);
  }
});

test("the gateway's statuses are those of the table", () => {
  const ofGateway: HttpReason[] = [
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
  for (const reason of ofGateway) {
    const { status, code } = new HttpError(reason, "");
    expect({ status, code }).toMatchObject({ status: reasons[reason].status, code: reasons[reason].code });
  }
});
