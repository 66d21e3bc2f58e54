import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { freePort } from "../../support/port.ts";

/** The core of the server, and the core of all other processes. */
export const cores = { server: "0", others: "1" };

/** Returns the command of the service of a tree, as its `npm start` runs it. */
export function serviceOf(tree: string): string[] {
  const { scripts } = JSON.parse(readFileSync(join(tree, "package.json"), "utf8"));
  const [, options] = /^exec node (.*)dist\/main\.js$/.exec(scripts.start) ?? [];
  if (options === undefined) throw new Error(`npm start of ${tree} does not run node: ${scripts.start}`);
  return [process.execPath, ...options.split(" ").filter(Boolean), join(tree, "dist/main.js")];
}

export interface Server {
  readonly url: string;
  readonly child: ChildProcess;
  stop(): Promise<void>;
}

/** Starts a server on one core, or on "any", and waits until it reports that it serves. */
export async function startServer(
  command: readonly string[],
  environment: Record<string, string>,
  core: string = cores.server,
): Promise<Server> {
  const port = await freePort();
  const [program = "", ...parameters] = core === "any" ? command : ["taskset", "-c", core, ...command];
  const env = { PATH: process.env.PATH, HOME: process.env.HOME, PORT: String(port), HOST: "127.0.0.1", ...environment };
  const child = spawn(program, parameters, { env, stdio: ["ignore", "pipe", "inherit"] });
  // A failed benchmark must leave no process behind.
  process.once("exit", () => child.kill("SIGKILL"));
  await new Promise<void>((done, fail) => {
    // The last release prints calls to try.
    child.stdout.on("data", (text) => /ready|Ready to accept|server started|Try:/.test(String(text)) && done());
    child.once("exit", (code) => fail(new Error(`${command.join(" ")} ended with ${code}`)));
  });
  return {
    url: `http://127.0.0.1:${port}`,
    child,
    async stop() {
      const exited = once(child, "exit");
      child.kill("SIGTERM");
      await exited;
    },
  };
}

/** Moves a running process and its children to the core of the other processes. */
export function moveAside(pid: number): void {
  for (const id of [pid, ...childrenOf(pid)]) execFileSync("taskset", ["-acp", cores.others, String(id)]);
}

/** Returns the ids of the children of a process. */
export function childrenOf(pid: number): number[] {
  return readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").split(" ").filter(Boolean).map(Number);
}

/** Returns the processor seconds that a process has used so far. */
export function cpuSeconds({ child }: { readonly child: { readonly pid?: number | undefined } }): number {
  const fields = readFileSync(`/proc/${child.pid}/stat`, "utf8").split(") ").at(-1)?.split(" ") ?? [];
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

/** Returns the nanoseconds of processor time that the threads of a process have used so far: finer than cpuSeconds, for short rounds. */
export function threadNanos(pid: number): number {
  const threads = readdirSync(`/proc/${pid}/task`);
  const spent = (thread: string) => readFileSync(`/proc/${pid}/task/${thread}/schedstat`, "utf8").split(" ", 1)[0];
  return threads.reduce((sum, thread) => sum + Number(spent(thread)), 0);
}

/** Returns the processor seconds that processes and all their descendants have used so far. */
export function treeCpuSeconds(pids: readonly number[]): number {
  return pids.reduce((sum, pid) => sum + cpuSeconds({ child: { pid } }) + treeCpuSeconds(childrenOf(pid)), 0);
}

/** Returns the output of a program that runs on the other core. */
export async function run(command: readonly string[]): Promise<string> {
  const child = spawn("taskset", ["-c", cores.others, ...command]);
  let output = "";
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (text) => (output += String(text)));
  const [code] = await once(child, "close");
  if (code !== 0) throw new Error(`${command.join(" ")} ended with ${code}: ${output}`);
  return output;
}

export function isInstalled(program: string): boolean {
  try {
    execFileSync("which", [program]);
    return true;
  } catch {
    return false;
  }
}
