#!/usr/bin/env -S npx tsx
import { writeFileSync } from "node:fs";
import { settings } from "../config.ts";

const introduction = `# Configuration

\`npm run gen\` generates this page from \`src/config.ts\`.

Settings are environment variables. If a value is invalid, the server does not start, and prints one line with the variable
and the rule. An empty variable counts as absent.

| Variable | Default | Meaning |
| --- | --- | --- |
`;

/** Returns the table of settings as a Markdown page. */
function configurationPage(): string {
  const rows = Object.entries(settings).map(
    ([name, { default: fallback, meaning }]) =>
      `| \`${name}\` | ${fallback === "" ? "" : `\`${fallback}\``} | ${meaning} |\n`,
  );
  return introduction + rows.join("");
}

writeFileSync("docs/configuration.md", configurationPage());
