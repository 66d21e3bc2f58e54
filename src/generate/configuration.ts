#!/usr/bin/env -S npx tsx
import { writeFileSync } from "node:fs";
import { settings } from "../config.ts";

const introduction = `# Configuration

This page is made from \`src/config.ts\` by \`npm run gen\`.

Settings are environment variables. A value that cannot be used stops the start with one line that names the variable and
the rule. An empty variable counts as absent.

| Variable | Default | Meaning |
| --- | --- | --- |
`;

/** The table of settings as a page of Markdown. */
function configurationPage(): string {
  const rows = Object.entries(settings).map(
    ([name, { default: fallback, meaning }]) =>
      `| \`${name}\` | ${fallback === "" ? "" : `\`${fallback}\``} | ${meaning} |\n`,
  );
  return introduction + rows.join("");
}

writeFileSync("docs/configuration.md", configurationPage());
