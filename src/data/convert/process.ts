import { once } from "node:events";
import { constants, setPriority } from "node:os";
import { impossibleCode } from "./apart.ts";
import { make } from "./make.ts";
import { Impossible } from "./table.ts";

// Run by apart.ts: the data comes in, what it is made into goes out. Calls go before it.
setPriority(constants.priority.PRIORITY_BELOW_NORMAL);
// Who stops a service may tell all of its processes; the one that drains ends this one when its time is up.
process.on("SIGTERM", () => undefined);
const from = process.argv[2] === "json" ? "json" : "xlsx";
const all: Buffer[] = [];
for await (const chunk of process.stdin) all.push(chunk as Buffer);
try {
  for await (const chunk of make(Buffer.concat(all), from)) {
    if (!process.stdout.write(chunk)) await once(process.stdout, "drain");
  }
} catch (error) {
  if (!(error instanceof Impossible)) throw error;
  // The reader of sheets may have written warnings: the reason is the last line.
  process.stderr.write(JSON.stringify(error.message));
  process.exitCode = impossibleCode;
}
