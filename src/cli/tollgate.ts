#!/usr/bin/env node
import { exitCodes } from "./exit-codes.ts";
import { runCommandLine } from "./run.ts";

const words = process.argv.slice(2);
const interrupted = new AbortController();
// The server has handlers of its own.
if (words[0] !== "serve") {
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => interrupted.abort());
}
// A reader such as `head` may close the pipe early. A backup must be complete: it fails by itself.
process.stdout.on("error", ({ code }: NodeJS.ErrnoException) => {
  if (words[0] !== "backup") process.exit(code === "EPIPE" ? exitCodes.fine : exitCodes.refused);
});

const { env: environment, stdin, stdout, stderr } = process;
process.exitCode = await runCommandLine({ words, environment, stdin, stdout, stderr, signal: interrupted.signal });
