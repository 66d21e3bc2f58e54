#!/usr/bin/env -S npx tsx
import { writeFileSync } from "node:fs";
import { commands } from "../cli/commands.ts";
import { createCommandPage, describeCommands } from "../cli/help.ts";

const introduction = `# Command line

This page is made from \`src/cli/commands.ts\` by \`npm run gen\`.

\`npx tollgate\` runs a command in a clone after \`npx tsc -p tsconfig.build.json\`; in the image it is
\`node dist/cli/tollgate.js\`. Data goes to stdout, everything else to stderr. \`--json\` prints JSON, one value a line.
\`eval "$(npx tollgate completion bash)"\` completes commands and options.

| Exit code | Meaning |
| --- | --- |
| 0 | fine |
| 1 | the command found something: a difference, a problem |
| 2 | wrong use of the command line |
| 3 | refused by the server |
| 4 | not found |
| 5 | not allowed, or not signed in |
| 75 | the server does not answer now: try again |

\`\`\`text
${describeCommands(commands)}
\`\`\`
`;

writeFileSync("docs/command-line.md", createCommandPage(commands, introduction));
