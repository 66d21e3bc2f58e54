import { Readable, Writable } from "node:stream";
import { runCommandLine } from "../../src/cli/run.ts";

export interface CommandExtra {
  readonly environment: Readonly<Record<string, string>>;
  readonly stdin?: string;
  /** The width of the terminal. Undefined: the output is not on a terminal. */
  readonly columns?: number;
  /** Interrupts the command. */
  readonly signal?: AbortSignal;
  /** Called with all of stdout so far, whenever there is more. */
  readonly onOutput?: (text: string) => void;
}

/** Runs a command line in this process. */
export async function runCommand(
  words: readonly string[],
  { environment, stdin = "", columns, signal = new AbortController().signal, onOutput }: CommandExtra,
) {
  const [stdout, stderr] = [collector(onOutput), collector()];
  const code = await runCommandLine({
    words,
    environment,
    stdin: Readable.from([stdin]),
    stdout: Object.assign(stdout.stream, columns !== undefined && { columns }),
    stderr: Object.assign(stderr.stream, { isTTY: columns !== undefined }),
    signal,
  });
  return { code, stdout: stdout.text(), stderr: stderr.text() };
}

function collector(onOutput?: (text: string) => void) {
  let text = "";
  const stream = new Writable({
    write(piece, _encoding, done) {
      text += String(piece);
      onOutput?.(text);
      done();
    },
  });
  return { stream, text: () => text };
}
