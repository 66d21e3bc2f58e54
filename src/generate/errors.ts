#!/usr/bin/env -S npx tsx
import { writeFileSync } from "node:fs";
import { Code } from "@connectrpc/connect";
import { reasons } from "../shared/reasons.ts";

const introduction = `# Errors

\`npm run gen\` generates this page from \`src/shared/reasons.ts\`.

Every error has a **reason**, a constant for programs. HTTP/JSON answers have it as \`reason\` beside \`message\`; if a
resource is missing, both are in \`detail\`. gRPC, gRPC-Web and Connect answers have it in the detail
\`google.rpc.ErrorInfo\`, with the domain \`tollgate\`. A message is for people and may change. A reason does not change.

Long errors are shortened: \`message\` and the violations together have some 4 KiB at most, and state the number of omitted
violations.

**Retry** says whether the same call may succeed later. \`Retry-After\` (HTTP) and \`google.rpc.RetryInfo\` (gRPC) say when.
`;

/** Returns the table of reasons as a Markdown page. */
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
