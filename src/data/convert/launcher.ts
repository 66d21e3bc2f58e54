import { type ChildProcess, spawn } from "node:child_process";
import { extname } from "node:path";
import type { ConversionKind } from "./convert-bytes.ts";

// The program that starts a process for each conversion. A fork copies the page tables of its process, which takes tens of
// milliseconds in a server and well under one here. The launcher never reads the data, and ends with its server.

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

// In development the child runs from the TypeScript sources too.
const extension = extname(import.meta.filename);
const loader = extension === ".ts" ? ["--import", "tsx"] : [];
/** The reason why data cannot be converted may quote a long name. */
const maxErrorCharacters = 1_000_000;

const children = new Map<number, ChildProcess>();

// A service manager may send SIGTERM to all processes of a service, and the server drains first.
process.on("SIGTERM", () => undefined);
process.on("message", (request: LauncherRequest) => {
  if (request.kind === "begin") begin(request);
  else if (request.kind === "stop") children.get(request.id)?.kill("SIGKILL");
  else {
    const { stdin } = children.get(request.id) ?? {};
    if (request.kind === "input") stdin?.write(request.bytes);
    else stdin?.end();
  }
});
process.once("disconnect", () => {
  for (const child of children.values()) child.kill("SIGKILL");
});

function begin({ id, from, memoryMb, timeMs }: Extract<LauncherRequest, { kind: "begin" }>): void {
  // With more threads for its collections, a conversion would take the second core from the server.
  const options = [`--max-old-space-size=${memoryMb}`, "--single-threaded-gc"];
  const child = spawn(process.execPath, [...loader, ...options, `child${extension}`, from], {
    timeout: timeMs,
    killSignal: "SIGKILL",
  });
  children.set(id, child);
  let errorOutput = "";
  const end = (code: number | null, signal: NodeJS.Signals | null) => {
    if (children.delete(id)) send({ id, kind: "end", code, signal, errorOutput });
  };
  // A child that exits early closes its stdin; its exit code says why.
  child.stdin.on("error", () => undefined);
  child.stdout.on("data", (bytes: Buffer) => send({ id, kind: "output", bytes }));
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    errorOutput = (errorOutput + text).slice(-maxErrorCharacters);
  });
  child.once("close", end);
  child.once("error", ({ message }) => {
    errorOutput = message;
    // A process that could not start is not closed.
    if (child.pid === undefined) end(null, null);
  });
}

function send(response: LauncherResponse): void {
  // The server may have ended.
  if (process.connected) process.send?.(response);
}
