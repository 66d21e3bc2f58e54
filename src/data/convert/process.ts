import { once } from "node:events";
import { constants, setPriority } from "node:os";
import { impossibleCode } from "./apart.ts";
import { make } from "./make.ts";
import { ConversionError } from "./table.ts";

// Run by apart.ts: reads the data from stdin and writes the result to stdout. The server's calls have priority.
setPriority(constants.priority.PRIORITY_BELOW_NORMAL);
// A service manager may send SIGTERM to all processes of a service. The draining server ends this one.
process.on("SIGTERM", () => undefined);
const from = process.argv[2] === "json" ? "json" : "xlsx";
const all: Buffer[] = [];
for await (const chunk of process.stdin) all.push(chunk as Buffer);
try {
  for await (const chunk of make(Buffer.concat(all), from)) {
    if (!process.stdout.write(chunk)) await once(process.stdout, "drain");
  }
} catch (error) {
  if (!(error instanceof ConversionError)) throw error;
  // Libraries may have written warnings: the reason is the last line.
  process.stderr.write(JSON.stringify(error.message));
  process.exitCode = impossibleCode;
}
