import { parseArgs } from "node:util";
import { type CommandDefinition, type CommandOption, UsageError } from "./command.ts";
import { commands } from "./commands.ts";
import { describeError, exitCodeOf, exitCodes } from "./exit-codes.ts";
import { commonOptions, describeCommand, describeCommands } from "./help.ts";
import { clearedLine, createOutput } from "./output.ts";

/** The parts of a process that a command uses. */
export interface Terminal {
  readonly words: readonly string[];
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly stdin: NodeJS.ReadableStream;
  readonly stdout: NodeJS.WritableStream & { readonly columns?: number };
  readonly stderr: NodeJS.WritableStream & { readonly isTTY?: boolean };
  /** Aborted to interrupt the command. */
  readonly signal: AbortSignal;
}

/** Runs a command line and returns its exit code. Prints a failure to stderr in one line. */
export async function runCommandLine(terminal: Terminal): Promise<number> {
  try {
    return await run(terminal);
  } catch (error) {
    // The line of a progress that stopped is cleared.
    terminal.stderr.write(`${terminal.stderr.isTTY === true ? clearedLine : ""}tollgate: ${describeError(error)}\n`);
    return exitCodeOf(error);
  }
}

async function run({ words, environment, stdin, stdout, stderr, signal }: Terminal): Promise<number> {
  const command = findCommand(words);
  if (command === undefined) {
    const topic = words.filter((word) => word !== "help" && word !== "--help");
    const group = commands.filter(({ name }) => `${name} `.startsWith(topic.map((word) => `${word} `).join("")));
    const isHelp = words.length === 0 || words.length > topic.length;
    if (!isHelp || group.length === 0) throw unknownCommand(words);
    stdout.write(`${group.length === 1 ? describeCommand(group[0] as CommandDefinition) : describeCommands(group)}\n`);
    return exitCodes.fine;
  }
  const { values, positionals } = parse(command, words.slice(command.name.split(" ").length));
  if (values["help"] === true) {
    stdout.write(`${describeCommand(command)}\n`);
    return exitCodes.fine;
  }
  const names = command.arguments ?? [];
  const least = names.filter((name) => !name.endsWith("?")).length;
  if (positionals.length < least) throw new UsageError(`${names[positionals.length]} must be set`);
  if (positionals.length > names.length) throw new UsageError(`unexpected argument: ${positionals[names.length]}`);
  const execute = await command.load();
  return execute({
    arguments: positionals,
    options: values,
    output: createOutput({ stdout, stderr, isJson: values["json"] === true }),
    environment,
    stdin,
    stdout,
    signal,
  });
}

function unknownCommand(words: readonly string[]): UsageError {
  const isGroup = commands.some(({ name }) => name.startsWith(`${words[0]} `));
  const hint = isGroup ? `tollgate ${words[0]} --help lists its commands` : "tollgate --help lists all";
  return new UsageError(`unknown command: ${words.slice(0, 2).join(" ")}. ${hint}`);
}

/** The command with the most words that the line begins with. */
function findCommand(words: readonly string[]): CommandDefinition | undefined {
  return commands.findLast(({ name }) => name === words.slice(0, name.split(" ").length).join(" "));
}

function parse(command: CommandDefinition, words: readonly string[]) {
  const options = Object.fromEntries(
    Object.entries<CommandOption>({ ...command.options, ...commonOptions }).map(([name, { value, short }]) => [
      name,
      { type: value === undefined ? ("boolean" as const) : ("string" as const), ...(short && { short }) },
    ]),
  );
  try {
    return parseArgs({ args: joinNegativeNumbers(words), options, allowPositionals: true });
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    throw new UsageError(message.replaceAll(/\s*\n/g, " "));
  }
}

/** parseArgs takes `-5` behind an option for another option: joins them to `--timezone=-5`. */
function joinNegativeNumbers(words: readonly string[]): string[] {
  const joined: string[] = [];
  for (const word of words) {
    const last = joined.at(-1);
    if (last?.startsWith("--") && /^-\d/.test(word)) joined[joined.length - 1] = `${last}=${word}`;
    else joined.push(word);
  }
  return joined;
}
