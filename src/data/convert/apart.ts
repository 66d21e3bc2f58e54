import { spawn } from "node:child_process";
import { once } from "node:events";
import { extname } from "node:path";
import type { Readable } from "node:stream";
import type { ConversionKind } from "./make.ts";
import { ConversionError } from "./table.ts";

export interface ConversionLimits {
  /** Heap of the process that converts. */
  readonly memoryMb: number;
  readonly timeMs: number;
  /** Size of the result. */
  readonly maxBytes: number;
}

/** Exit code for data that cannot be converted. The last line of stderr is the reason, as JSON. */
export const impossibleCode = 3;

// In development the child runs from the TypeScript sources too.
const extension = extname(import.meta.filename);
const loader = extension === ".ts" ? ["--import", "tsx"] : [];
/** V8 aborts when its heap is full; the system kills when memory is full, and so does the time limit. */
const fullSignals: readonly (NodeJS.Signals | null)[] = ["SIGABRT", "SIGTRAP", "SIGILL", "SIGKILL"];
const maxStory = 10_000;

/**
 * Converts in a process of its own: data that fills its memory ends that process alone. In a thread, V8 would end the
 * whole server.
 * @throws Impossible for data that cannot be converted; the signal's reason as soon as it is aborted
 */
export async function makeApart(
  bytes: Buffer,
  from: ConversionKind,
  signal: AbortSignal,
  limits: ConversionLimits,
): Promise<Buffer> {
  const { memoryMb, timeMs, maxBytes } = limits;
  signal.throwIfAborted();
  const child = spawn(process.execPath, [...loader, `--max-old-space-size=${memoryMb}`, `process${extension}`, from], {
    cwd: import.meta.dirname,
    // The child reads data of strangers: it gets no secrets.
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
  // A child that ends early does not read to the end; its exit code says why.
  child.stdin.on("error", () => undefined).end(bytes);
  const all = Promise.all([ended, collect(child.stdout, maxBytes), collect(child.stderr, Infinity)]);
  try {
    const [[code, endSignal], made, story] = await all;
    if (code === 0) return made;
    if (code === impossibleCode)
      throw new ConversionError(JSON.parse(story.toString().split("\n").at(-1) ?? "") as string);
    if (fullSignals.includes(endSignal)) {
      throw new ConversionError(
        `it is too large: it takes more than ${memoryMb} MB of memory or ${timeMs / 1000} seconds`,
      );
    }
    throw new Error(`the conversion ended with ${code ?? endSignal}: ${story.subarray(0, maxStory).toString()}`);
  } catch (error) {
    signal.throwIfAborted();
    throw error;
  } finally {
    child.kill("SIGKILL");
  }
}

async function collect(chunks: Readable, maxBytes: number): Promise<Buffer> {
  const all: Buffer[] = [];
  let length = 0;
  for await (const chunk of chunks as AsyncIterable<Buffer>) {
    length += chunk.length;
    if (length > maxBytes) throw new ConversionError(`it is too large: it comes to more than ${maxBytes} bytes`);
    all.push(chunk);
  }
  return Buffer.concat(all);
}
