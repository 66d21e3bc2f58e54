#!/usr/bin/env -S npx tsx
import { writeFileSync } from "node:fs";
import { Code } from "@connectrpc/connect";
import { reasons } from "../shared/reasons.ts";

const introduction = `# Errors

This page is made from \`src/shared/reasons.ts\` by \`npm run gen\`.

Every error has a **reason**, a constant for programs. HTTP/JSON answers have it as \`reason\` beside \`message\`; with a
missing resource both are in \`detail\`. gRPC, gRPC-Web and Connect answers have it in the detail \`google.rpc.ErrorInfo\`,
with the domain \`tollgate\`. A message is for people and may change. A reason does not change.

A long error is cut: \`message\` and the violations together take some 4 KiB at most, and say how many more there are.

**Retry** says whether the same call, sent again unchanged, may succeed. \`Retry-After\` (HTTP) and \`google.rpc.RetryInfo\`
(gRPC) say when.
`;

/** The table of reasons as a page of Markdown. */
function errorsPage(): string {
  const sections = Object.entries(reasons).map(
    ([name, { code, status, retry, cause, cure }]) =>
      `## ${name}\n\nHTTP ${status}, gRPC ${codeName(code)}. Retry: ${retry ? "yes" : "no"}.\n\n${cause}\n\n${cure}\n`,
  );
  return [introduction, ...sections].join("\n");
}

/** `FailedPrecondition` → `FAILED_PRECONDITION`. */
function codeName(code: Code): string {
  return code === Code.Canceled
    ? "CANCELLED"
    : (Code[code] ?? "").replaceAll(/(?<=[a-z])(?=[A-Z])/g, "_").toUpperCase();
}

writeFileSync("docs/errors.md", errorsPage());
