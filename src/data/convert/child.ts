import { once } from "node:events";
import { notConvertibleExitCode } from "./child-process.ts";
import { convertBytes } from "./convert-bytes.ts";
import { ConversionError } from "./layout.ts";

// The program that the launcher starts for a conversion: reads the data from stdin and writes the result to stdout.
/** A reason may quote a name of megabytes. */
const maxReasonCharacters = 10_000;

// Ignored: a service manager may send SIGTERM to all processes of a service, and the server drains first.
process.on("SIGTERM", () => undefined);
const from = process.argv[2] === "json" ? "json" : "xlsx";
const all: Buffer[] = [];
for await (const chunk of process.stdin) all.push(chunk as Buffer);
try {
  for await (const chunk of convertBytes(Buffer.concat(all), from)) {
    if (!process.stdout.write(chunk)) await once(process.stdout, "drain");
  }
} catch (error) {
  if (!(error instanceof ConversionError)) throw error;
  // Libraries may have written warnings, so the reason is the last line.
  process.stderr.write(JSON.stringify(error.message.slice(0, maxReasonCharacters)));
  process.exitCode = notConvertibleExitCode;
}
