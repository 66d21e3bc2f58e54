import { spawn } from "node:child_process";
import { once } from "node:events";
import { extname } from "node:path";
import type { Readable } from "node:stream";
import type { Kind } from "./make.ts";
import { Impossible } from "./table.ts";

export interface Limits {
  /** Of what the data is while it is converted. */
  readonly memoryMb: number;
  readonly timeMs: number;
  /** Of what it comes to. */
  readonly maxBytes: number;
}

/** What the process ends with when the last line of what it has written is the reason, as JSON. */
export const impossibleCode = 3;

// From the sources it is run as they are, by what runs them.
const extension = extname(import.meta.filename);
const loader = extension === ".ts" ? ["--import", "tsx"] : [];
/** How V8 ends a process whose memory is full; what the system ends for that, and we for its time, is killed. */
const fullSignals: readonly (NodeJS.Signals | null)[] = ["SIGABRT", "SIGTRAP", "SIGILL", "SIGKILL"];
const maxStory = 10_000;

/**
 * Converts in a process of its own: what fills the memory ends that one alone. A thread would not do: V8 ends all of
 * the process for one table that does not fit into the memory of one thread.
 * @throws Impossible; the signal's reason, at once, when it is aborted
 */
export async function makeApart(bytes: Buffer, from: Kind, signal: AbortSignal, limits: Limits): Promise<Buffer> {
  const { memoryMb, timeMs, maxBytes } = limits;
  signal.throwIfAborted();
  const child = spawn(process.execPath, [...loader, `--max-old-space-size=${memoryMb}`, `process${extension}`, from], {
    cwd: import.meta.dirname,
    // It needs none of our secrets, and reads what anybody has sent.
    env: {},
    // Ctrl-C is for us, and we drain: in our group it would end by it in the middle of a call.
    detached: true,
    signal,
    timeout: timeMs,
    killSignal: "SIGKILL",
  });
  const ended = once(child, "close") as Promise<[number | null, NodeJS.Signals | null]>;
  // What cannot start has no pipes: that is the error then.
  ended.catch(() => undefined);
  // Who ends early does not read to the end: how it ended says why.
  child.stdin.on("error", () => undefined).end(bytes);
  const all = Promise.all([ended, collect(child.stdout, maxBytes), collect(child.stderr, Infinity)]);
  try {
    const [[code, endSignal], made, story] = await all;
    if (code === 0) return made;
    if (code === impossibleCode) throw new Impossible(JSON.parse(story.toString().split("\n").at(-1) ?? "") as string);
    if (fullSignals.includes(endSignal)) {
      throw new Impossible(`it is too large: it takes more than ${memoryMb} MB of memory or ${timeMs / 1000} seconds`);
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
    if (length > maxBytes) throw new Impossible(`it is too large: it comes to more than ${maxBytes} bytes`);
    all.push(chunk);
  }
  return Buffer.concat(all);
}
