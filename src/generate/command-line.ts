#!/usr/bin/env -S npx tsx
import { writeFileSync } from "node:fs";
import { commands } from "../cli/commands.ts";
import { exitCodeMeanings, exitCodes } from "../cli/exit-codes.ts";
import { createCommandPage, describeCommands } from "../cli/help.ts";

const exitCodeRows = Object.entries(exitCodes).map(
  ([name, code]) => `| ${code} | ${exitCodeMeanings[name as keyof typeof exitCodes]} |`,
);

const introduction = `# Command line

This page is made from \`src/cli/commands.ts\` and \`src/cli/exit-codes.ts\` by \`npm run gen\`.

\`npx tollgate\` runs a command in a clone after \`npx tsc -p tsconfig.build.json\`; in the image it is
\`node dist/cli/tollgate.js\`. Data goes to stdout, everything else to stderr. \`--json\` prints JSON, one value a line.
\`eval "$(npx tollgate completion bash)"\` completes commands and options.

| Exit code | Meaning |
| --- | --- |
${exitCodeRows.join("\n")}

\`\`\`text
${describeCommands(commands)}
\`\`\`
`;

writeFileSync("docs/command-line.md", createCommandPage(commands, introduction));
