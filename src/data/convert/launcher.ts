import { type ChildProcess, spawn } from "node:child_process";
import { extname } from "node:path";
import type { ConversionKind } from "./convert-bytes.ts";

// The program that starts a process for each conversion. A fork copies the page tables of its process, which takes tens of
// milliseconds in a server, and less than one in this small process. The launcher never parses the data, and ends with its
// server.

/** A message of the server about one conversion. */
export type LauncherRequest = { readonly id: number } & (
  | { readonly kind: "begin"; readonly from: ConversionKind; readonly memoryMb: number; readonly timeMs: number }
  | { readonly kind: "input"; readonly bytes: Uint8Array }
  | { readonly kind: "end of input" }
  | { readonly kind: "stop" }
);

/** A message of the launcher about one conversion. Nothing follows its end. */
export type LauncherResponse = { readonly id: number } & (
  | { readonly kind: "output"; readonly bytes: Uint8Array }
  | ({ readonly kind: "end" } & ConversionEnd)
);

export interface ConversionEnd {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  /** The end of what the process has written to stderr. */
  readonly errorOutput: string;
}

/** The end of stderr that is kept. The last line, which may be the reason, is shorter: see child.ts. */
const maxErrorCharacters = 100_000;

interface Running {
  readonly child: ChildProcess;
  readonly timeMs: number;
}

const running = new Map<number, Running>();

// A service manager may send SIGTERM to all processes of a service, and the server drains first.
process.on("SIGTERM", () => undefined);
process.on("message", (request: LauncherRequest) => {
  if (request.kind === "begin") {
    begin(request);
    return;
  }
  const { child, timeMs = 0 } = running.get(request.id) ?? {};
  if (request.kind === "stop") child?.kill("SIGKILL");
  else if (request.kind === "input") child?.stdin?.write(request.bytes);
  else {
    child?.stdin?.end();
    // The time to read the data does not count.
    setTimeout(() => child?.kill("SIGKILL"), timeMs).unref();
  }
});
process.once("disconnect", () => {
  for (const { child } of running.values()) child.kill("SIGKILL");
});

function begin({ id, from, memoryMb, timeMs }: Extract<LauncherRequest, { kind: "begin" }>): void {
  let errorOutput = "";
  const end = (code: number | null, signal: NodeJS.Signals | null) => {
    if (running.delete(id)) send({ id, kind: "end", code, signal, errorOutput });
  };
  try {
    // With more threads for its collections, a conversion would take the second core from the server.
    const options = [...process.execArgv, `--max-old-space-size=${memoryMb}`, "--single-threaded-gc"];
    const program = `child${extname(import.meta.filename)}`;
    const child = spawn(process.execPath, [...options, program, from]);
    running.set(id, { child, timeMs });
    child.once("close", end);
    child.once("error", ({ message }) => {
      errorOutput = message;
      end(null, null);
    });
    // It could not start, and may have no pipes. Its error follows.
    if (child.pid === undefined) return;
    // A child that exits early closes its stdin; its exit code says why.
    child.stdin.on("error", () => undefined);
    child.stdout.on("data", (bytes: Buffer) => {
      // While the server is busy, the child waits: the launcher holds one piece.
      child.stdout.pause();
      send({ id, kind: "output", bytes }, () => child.stdout.resume());
    });
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      errorOutput = (errorOutput + text).slice(-maxErrorCharacters);
    });
  } catch (error) {
    // The system has no memory for a process.
    send({ id, kind: "end", code: null, signal: null, errorOutput: String(error) });
  }
}

/** The server may have ended: then the message is lost, and the channel closes next. */
function send(response: LauncherResponse, onSent: () => void = () => undefined): void {
  process.send?.(response, undefined, undefined, onSent);
}
