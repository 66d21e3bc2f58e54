import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { writeFile } from "node:fs/promises";
import { setPriority } from "node:os";
import { extname } from "node:path";
import type { Readable } from "node:stream";
import type { ConversionKind } from "./convert-bytes.ts";
import { ConversionError } from "./layout.ts";

export interface ConversionLimits {
  /** Heap of the process that converts. */
  readonly memoryMb: number;
  readonly timeMs: number;
  /** Size of the result. */
  readonly maxBytes: number;
}

/** Exit code for data that cannot be converted. The last line of stderr is the reason, as JSON. */
export const notConvertibleExitCode = 3;

// In development the child runs from the TypeScript sources too.
const extension = extname(import.meta.filename);
const loader = extension === ".ts" ? ["--import", "tsx"] : [];
/** V8 aborts when its heap is full. SIGKILL comes from the system when memory is full, or from the timeout. */
const limitSignals: readonly (NodeJS.Signals | null)[] = ["SIGABRT", "SIGTRAP", "SIGILL", "SIGKILL"];
const maxLoggedBytes = 10_000;
/** Calls go first on a busy core. A conversion still gets a quarter of it: with less, large ones would not end in time. */
const niceness = 5;

/**
 * Converts data in a child process, so that data which fills the heap ends the child only. In a thread, V8 would end
 * the whole server.
 * @throws ConversionError for data that cannot be converted; the signal's reason as soon as it is aborted
 */
export async function convertInChild(
  bytes: Buffer,
  from: ConversionKind,
  signal: AbortSignal,
  limits: ConversionLimits,
): Promise<Buffer> {
  const { memoryMb, timeMs, maxBytes } = limits;
  signal.throwIfAborted();
  const child = spawn(process.execPath, [...loader, `--max-old-space-size=${memoryMb}`, `child${extension}`, from], {
    cwd: import.meta.dirname,
    // The child parses untrusted data, so it gets no secrets.
    env: {},
    // In the server's process group, Ctrl-C would end the child while the server still drains.
    detached: true,
    signal,
    timeout: timeMs,
    killSignal: "SIGKILL",
  });
  const ended = once(child, "close") as Promise<[number | null, NodeJS.Signals | null]>;
  // A child that cannot start has no pipes; the error of the pipes is thrown instead.
  ended.catch(() => undefined);
  lowerPriority(child);
  // A child that exits early closes its stdin; its exit code says why.
  child.stdin.on("error", () => undefined).end(bytes);
  const all = Promise.all([ended, collect(child.stdout, maxBytes), collect(child.stderr, Infinity)]);
  try {
    const [[code, endSignal], result, errorOutput] = await all;
    if (code === 0) return result;
    if (code === notConvertibleExitCode)
      throw new ConversionError(JSON.parse(errorOutput.toString().split("\n").at(-1) ?? "") as string);
    if (limitSignals.includes(endSignal)) {
      throw new ConversionError(
        `it is too large: its conversion needs more than ${memoryMb} MB of memory or ${timeMs / 1000} seconds`,
      );
    }
    const output = errorOutput.subarray(0, maxLoggedBytes).toString();
    throw new Error(`the conversion ended with ${code ?? endSignal}: ${output}`);
  } catch (error) {
    signal.throwIfAborted();
    throw error;
  } finally {
    child.kill("SIGKILL");
  }
}

/** Lowers the priority of a process that leads a session, where the system allows it. */
function lowerPriority(child: ChildProcess): void {
  if (child.pid === undefined) return;
  try {
    setPriority(child.pid, niceness);
  } catch {
    // The conversion works with any priority.
  }
  lowerSessionPriority(child);
}

/**
 * Linux may share a core between sessions first (autogroup), and between the processes of a session next. The kernel may
 * take tens of milliseconds for the change, which happens beside the event loop.
 */
function lowerSessionPriority(child: ChildProcess): void {
  if (child.exitCode !== null || child.signalCode !== null) return;
  writeFile(`/proc/${child.pid}/autogroup`, String(niceness)).catch((error: NodeJS.ErrnoException) => {
    // Without privileges, all processes together may make one such change in 100 ms. Other systems have no such file.
    if (error.code === "EAGAIN") setTimeout(lowerSessionPriority, 150, child).unref();
  });
}

async function collect(chunks: Readable, maxBytes: number): Promise<Buffer> {
  const all: Buffer[] = [];
  let length = 0;
  for await (const chunk of chunks as AsyncIterable<Buffer>) {
    length += chunk.length;
    if (length > maxBytes) throw new ConversionError(`it is too large: the result exceeds ${maxBytes} bytes`);
    all.push(chunk);
  }
  return Buffer.concat(all);
}
