import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";

export interface ServerProcess {
  readonly process: ChildProcess;
  readonly url: string;
  /** The output so far, stdout and stderr. */
  output(): string;
  /** Sends the signal, waits for the exit and returns the exit code. */
  end(signal?: NodeJS.Signals): Promise<number | null>;
}

export interface StartOptions {
  /** Whether it leads its own process group, as a command started in a terminal does. */
  readonly leadsGroup?: boolean;
  /** Its working directory; default: that of the test. */
  readonly cwd?: string;
  /** Matches the output of a server that has started. The first group is its address. */
  readonly started?: RegExp;
}

/** Starts a command as a process and waits until its server has started. */
export async function startProcess(
  environment: Record<string, string>,
  command: readonly string[] = [process.execPath, "--import", "tsx", "src/main.ts"],
  { leadsGroup = false, cwd, started = /"url":"(http[^"]+)".*"msg":"server started"\}\n/ }: StartOptions = {},
): Promise<ServerProcess> {
  const { child, output } = run(environment, command, { detached: leadsGroup, cwd });
  await until(child, output, started);
  const exited = once(child, "exit");
  return {
    process: child,
    url: started.exec(output())?.[1] ?? "",
    output,
    end: async (signal = "SIGTERM") => {
      child.kill(signal);
      const [code] = await exited;
      return code;
    },
  };
}

/** Runs the server until it exits. */
export async function runProcess(
  environment: Record<string, string>,
  command: readonly string[] = [process.execPath, "--import", "tsx", "src/main.ts"],
  { cwd }: Pick<StartOptions, "cwd"> = {},
): Promise<{ code: number | null; output: string }> {
  const { child, output } = run(environment, command, { cwd });
  const [code] = await once(child, "close");
  return { code, output: output() };
}

function run(
  environment: Record<string, string>,
  [program = "", ...parameters]: readonly string[],
  options: { readonly detached?: boolean; readonly cwd?: string | undefined },
) {
  const clean = Object.fromEntries(["PATH", "HOME"].map((name) => [name, process.env[name] ?? ""]));
  const env = { ...clean, PORT: "0", HOST: "127.0.0.1", ...environment };
  const child = spawn(program, parameters, { env, ...options });
  const chunks: string[] = [];
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (chunk) => chunks.push(String(chunk)));
  return { child, output: () => chunks.join("") };
}

/** Waits until the output matches. Fails when the process exits first. */
async function until(child: ChildProcess, output: () => string, pattern: RegExp): Promise<void> {
  await new Promise<void>((done, fail) => {
    const look = () => {
      if (!pattern.test(output())) return;
      // The output of a busy server is long: searching it at every line costs more than the calls.
      child.stdout?.off("data", look);
      done();
    };
    child.stdout?.on("data", look);
    child.once("exit", (code) => fail(new Error(`ended with ${code}: ${output()}`)));
  });
}
