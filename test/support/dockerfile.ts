import { spawnSync } from "node:child_process";
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  statSync,
} from "node:fs";
import { homedir, tmpdir } from "node:os";
import { basename, dirname, join, resolve } from "node:path";

/** A stage of a Dockerfile: a folder in place of a file system, with the node of this machine and what the steps made. */
export interface Stage {
  /** The text after FROM, without the name of the stage. */
  readonly base: string;
  readonly root: string;
  /** The working directory, within `root`. */
  folder: string;
  user: string;
  readonly environment: Record<string, string>;
  readonly command: string[];
  readonly healthCheck: string[];
}

/**
 * Runs the steps of a Dockerfile as a shell does, each stage in an empty folder, without Docker. RUN has the programs of
 * this machine, so it does not show that the base image has them.
 * @param context the folder that COPY reads, without what its .dockerignore names
 * @returns the stages, the last of which is the image
 * @throws Error for a step that fails, and for an instruction or a flag that this function does not know
 */
export function runDockerfile(file: string, context = dirname(resolve(file))): Stage[] {
  const stages: Stage[] = [];
  const named = new Map<string, Stage>();
  const ignored = readFileSync(join(context, ".dockerignore"), "utf8").split("\n").filter(Boolean);

  const steps: Record<string, (stage: Stage, rest: string) => void> = {
    WORKDIR(stage, rest) {
      stage.folder = resolve(stage.folder, rest);
      mkdirSync(join(stage.root, stage.folder), { recursive: true });
    },
    ARG: (stage, rest) => assign(stage, rest),
    ENV: (stage, rest) => rest.split(/\s+/).forEach((pair) => assign(stage, pair)),
    USER: (stage, rest) => void (stage.user = rest),
    EXPOSE: () => undefined,
    RUN: (stage, rest) => run(["sh", "-c", rest], join(stage.root, stage.folder), environmentOf(stage)),
    COPY: copy,
    CMD: (stage, rest) => void stage.command.splice(0, Number.POSITIVE_INFINITY, ...JSON.parse(rest)),
    HEALTHCHECK(stage, rest) {
      const [, words] = /^(?:--\w[\w-]*=\S+ +)*CMD (\[.*\])$/.exec(rest) ?? [];
      if (words === undefined) throw new Error(`HEALTHCHECK must have a CMD of words: ${rest}`);
      stage.healthCheck.splice(0, Number.POSITIVE_INFINITY, ...JSON.parse(words));
    },
  };

  function from(rest: string): void {
    const [base = "", as, name] = rest.split(/\s+/);
    const stage = openStage(base);
    stages.push(stage);
    if (as?.toUpperCase() === "AS" && name !== undefined) named.set(name, stage);
  }

  function copy(stage: Stage, rest: string): void {
    const words = rest.split(/\s+/);
    const target = words.pop() ?? "";
    const [, name] = /^--from=(.+)$/.exec(words[0] ?? "") ?? [];
    const source = name === undefined ? context : named.get(name)?.root;
    if (source === undefined) throw new Error(`COPY names a stage that is not above it: ${rest}`);
    const into = join(stage.root, resolve(stage.folder, target));
    for (const path of (name === undefined ? words : words.slice(1)).flatMap((word) => expand(source, word))) {
      if (path.startsWith("--")) throw new Error(`COPY has an unknown flag: ${rest}`);
      if (name === undefined && ignored.includes(path.split("/")[0] ?? "")) {
        throw new Error(`.dockerignore names what COPY needs: ${path}`);
      }
      const full = join(source, path);
      const isFolder = statSync(full).isDirectory();
      const isInto = isFolder || /(^|\/)\.?$/.test(target);
      mkdirSync(isInto ? into : dirname(into), { recursive: true });
      run(["cp", "-a", isFolder ? `${full}/.` : full, isInto && !isFolder ? join(into, basename(path)) : into], "/");
    }
  }

  function runStep(name: string, rest: string): void {
    const step = steps[name];
    const stage = stages.at(-1);
    if (step === undefined || stage === undefined) throw new Error(`unknown instruction: ${name} ${rest}`);
    step(stage, rest);
  }

  for (const { name, rest } of instructionsOf(readFileSync(file, "utf8"))) {
    if (name === "FROM") from(rest);
    else runStep(name, rest);
  }
  return stages;
}

/** Returns the environment of a process in a stage: as in a container, little of this machine's is left. */
export function environmentOf({ root, environment }: Stage): Record<string, string> {
  const passed = Object.entries(process.env).filter(([name]) => /proxy$|^NODE_EXTRA_CA_CERTS$/i.test(name));
  // npm finds its registry and its cache below HOME.
  const own = { PATH: `${root}/usr/local/bin:${process.env.PATH}`, HOME: homedir() };
  return { ...(Object.fromEntries(passed) as Record<string, string>), ...own, ...environment };
}

function instructionsOf(text: string): { readonly name: string; readonly rest: string }[] {
  const lines = text
    .replace(/^[ \t]*#.*\n/gm, "")
    .replaceAll("\\\n", "")
    .split("\n");
  return lines
    .map((line) => line.trim())
    .filter((line) => line !== "")
    .map((line) => ({ name: line.split(/\s/, 1)[0] ?? "", rest: line.replace(/^\S+\s*/, "") }));
}

function openStage(base: string): Stage {
  const root = mkdtempSync(join(tmpdir(), "tollgate-image-"));
  // Another user runs what is in it.
  chmodSync(root, 0o755);
  const programs = join(root, "usr/local/bin");
  mkdirSync(programs, { recursive: true });
  copyFileSync(process.execPath, join(programs, "node"));
  return { base, root, folder: "/", user: "root", environment: {}, command: [], healthCheck: [] };
}

/** Sets NAME=value, with $NAME in the value replaced. */
function assign({ environment }: Stage, pair: string): void {
  const [, name = "", value = ""] = /^(\w+)(?:=(.*))?$/.exec(pair) ?? [];
  if (name === "") throw new Error(`must be NAME=value: ${pair}`);
  environment[name] = value.replace(/\$\{?(\w+)\}?/g, (_all, used: string) => environment[used] ?? "");
}

/** Returns the paths that a pattern matches. A star may stand in the last part of the path. */
function expand(source: string, pattern: string): string[] {
  if (!pattern.includes("*")) return [pattern];
  const matcher = new RegExp(`^${basename(pattern).replaceAll(".", "\\.").replaceAll("*", ".*")}$`);
  const folder = dirname(pattern);
  const found = existsSync(join(source, folder)) ? readdirSync(join(source, folder)) : [];
  const paths = found.filter((name) => matcher.test(name)).map((name) => join(folder, name));
  if (paths.length === 0) throw new Error(`COPY finds nothing: ${pattern}`);
  return paths;
}

function run([program = "", ...parameters]: readonly string[], cwd: string, env?: Record<string, string>): void {
  const { status, stdout, stderr, error } = spawnSync(program, parameters, { cwd, env, encoding: "utf8" });
  if (status !== 0) throw new Error(`${program} ${parameters.join(" ")}: ${error?.message ?? stdout + stderr}`);
}
