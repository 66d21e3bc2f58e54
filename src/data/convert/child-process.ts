import { type ChildProcess, fork } from "node:child_process";
import { writeFile } from "node:fs/promises";
import { setPriority } from "node:os";
import { extname, join } from "node:path";
import type { ConversionKind } from "./convert-bytes.ts";
import type { ConversionEnd, LauncherRequest, LauncherResponse } from "./launcher.ts";
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

/** V8 aborts when its heap is full. SIGKILL comes from the system when memory is full, or from the timeout. */
const limitSignals: readonly (NodeJS.Signals | null)[] = ["SIGABRT", "SIGTRAP", "SIGILL", "SIGKILL"];
/** Calls go first on a busy core. A conversion still gets a quarter of it: with less, large ones would not end in time. */
const niceness = 5;
const maxLoggedCharacters = 10_000;
// In development the launcher runs from the TypeScript sources too.
const extension = extname(import.meta.filename);

/** A conversion that runs. */
interface Conversion {
  readonly launcher: ChildProcess;
  readonly output: Uint8Array[];
  outputBytes: number;
  readonly maxBytes: number;
  readonly end: (end: ConversionEnd) => void;
  readonly fail: (error: Error) => void;
}

const conversions = new Map<number, Conversion>();
let lastId = 0;
let openedLauncher: ChildProcess | undefined;

/**
 * Converts data in a process of its own, so that data which fills the heap ends that process only. In a thread, V8 would
 * end the whole server.
 * @throws ConversionError for data that cannot be converted; the signal's reason as soon as it is aborted
 */
export async function convertInChild(
  content: AsyncIterable<Uint8Array>,
  from: ConversionKind,
  signal: AbortSignal,
  limits: ConversionLimits,
): Promise<Buffer> {
  const { memoryMb, timeMs, maxBytes } = limits;
  signal.throwIfAborted();
  const launcher = openLauncher();
  const id = (lastId += 1);
  // Without a free file, the launcher has no channel, and its error follows.
  const send = (request: LauncherRequest) => void launcher.send?.(request);
  const output: Uint8Array[] = [];
  const ended = new Promise<ConversionEnd>((end, fail) => {
    conversions.set(id, { launcher, output, outputBytes: 0, maxBytes, end, fail });
  });
  const onAbort = () => conversions.get(id)?.fail(signal.reason as Error);
  signal.addEventListener("abort", onAbort, { once: true });
  try {
    send({ id, kind: "begin", from, memoryMb, timeMs });
    // Not awaited: an abort need not wait for the content.
    sendContent(content, id, send).catch((error: Error) => conversions.get(id)?.fail(error));
    const { code, signal: endSignal, errorOutput } = await ended;
    if (code === 0) return Buffer.concat(output);
    if (code === notConvertibleExitCode)
      throw new ConversionError(JSON.parse(errorOutput.split("\n").at(-1) ?? "") as string);
    if (limitSignals.includes(endSignal)) {
      throw new ConversionError(
        `it is too large: its conversion needs more than ${memoryMb} MB of memory or ${timeMs / 1000} seconds`,
      );
    }
    const logged = errorOutput.slice(0, maxLoggedCharacters);
    throw new Error(`the conversion ended with ${code ?? endSignal}: ${logged}`);
  } catch (error) {
    if (launcher.connected) send({ id, kind: "stop" });
    throw error;
  } finally {
    signal.removeEventListener("abort", onAbort);
    conversions.delete(id);
  }
}

/** Sends the content of a conversion, until the conversion has ended. */
async function sendContent(
  content: AsyncIterable<Uint8Array>,
  id: number,
  send: (request: LauncherRequest) => void,
): Promise<void> {
  for await (const bytes of content) {
    if (!conversions.has(id)) return;
    send({ id, kind: "input", bytes });
  }
  send({ id, kind: "end of input" });
}

/** Returns the launcher of this process. The first conversion starts it, and so does the next one after it has ended. */
function openLauncher(): ChildProcess {
  if (openedLauncher?.connected === true) return openedLauncher;
  const launcher = fork(join(import.meta.dirname, `launcher${extension}`), {
    cwd: import.meta.dirname,
    // Its children parse untrusted data, so they get no secrets.
    env: {},
    execArgv: extension === ".ts" ? ["--import", "tsx"] : [],
    // In the server's process group, Ctrl-C would end the conversion while the server still drains.
    detached: true,
    serialization: "advanced",
    stdio: ["ignore", "ignore", "inherit", "ipc"],
  });
  openedLauncher = launcher;
  const onEnd = (error: Error) => {
    if (openedLauncher === launcher) openedLauncher = undefined;
    for (const conversion of conversions.values()) if (conversion.launcher === launcher) conversion.fail(error);
  };
  launcher.on("message", receive);
  launcher.on("error", (error) => {
    if (launcher.pid === undefined) onEnd(error);
    // A message that cannot be sent: the launcher has ended, or ends now, and its exit says why.
    else launcher.kill("SIGKILL");
  });
  launcher.once("exit", (code, signal) => {
    endGroup(launcher);
    onEnd(new Error(`the launcher of conversions ended with ${code ?? signal}`));
  });
  // It ends when this process does.
  launcher.unref();
  launcher.channel?.unref();
  lowerPriority(launcher);
  return launcher;
}

/** Ends the conversions of a launcher that has ended before them. */
function endGroup({ pid }: ChildProcess): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, "SIGKILL");
  } catch {
    // None is left.
  }
}

function receive(response: LauncherResponse): void {
  const conversion = conversions.get(response.id);
  if (conversion === undefined) return;
  if (response.kind === "end") {
    conversion.end(response);
    return;
  }
  conversion.output.push(response.bytes);
  conversion.outputBytes += response.bytes.length;
  if (conversion.outputBytes > conversion.maxBytes) {
    conversion.fail(new ConversionError(`it is too large: the result exceeds ${conversion.maxBytes} bytes`));
  }
}

/** Lowers the priority of the launcher, which its children inherit, where the system allows it. */
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
