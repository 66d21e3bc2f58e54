/** A command of the command line. Help, completions and docs/command-line.md are made from these. */
export interface CommandDefinition {
  /** One or two words, such as "user list". */
  readonly name: string;
  /** One sentence, without the full stop. */
  readonly summary: string;
  /** Names of the arguments, in order. A name that ends with "?" is optional. */
  readonly arguments?: readonly string[];
  readonly options?: Readonly<Record<string, CommandOption>>;
  /** Loads the implementation, so that a command pays for its own imports only. */
  readonly load: () => Promise<Run>;
}

export interface CommandOption {
  /** The name of the value in the help. Absent for a flag. */
  readonly value?: string;
  /** The letter of a short form. */
  readonly short?: string;
  readonly meaning: string;
}

/** Runs a command and returns its exit code. */
export type Run = (input: CommandInput) => Promise<number>;

export interface CommandInput {
  readonly arguments: readonly string[];
  readonly options: Readonly<Record<string, string | boolean | undefined>>;
  readonly output: CommandOutput;
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly stdin: NodeJS.ReadableStream;
  /** For bytes. Texts and values go through `output`. */
  readonly stdout: NodeJS.WritableStream;
  /** Aborted by SIGINT and SIGTERM. */
  readonly signal: AbortSignal;
}

/** Data goes to stdout, everything else to stderr. */
export interface CommandOutput {
  /** Prints rows as a table, or as JSON lines with --json. Later rows continue the table. */
  rows(rows: readonly OutputRow[]): void;
  /** Prints one value: as text, or as JSON with --json. */
  value(value: unknown, text: string): void;
  /** Prints a message for people to stderr. */
  note(message: string): void;
  /** Replaces the last progress line on a terminal. Prints nothing elsewhere. */
  progress(message: string): void;
}

export type OutputRow = Readonly<Record<string, string | number | boolean | null | undefined>>;

/** A wrong use of the command line. It exits with 2. */
export class UsageError extends Error {}

/**
 * Returns the text of an option.
 * @throws UsageError when it is required and absent
 */
export function requireOption({ options }: CommandInput, name: string): string {
  const value = options[name];
  if (typeof value !== "string") throw new UsageError(`--${name} must be set`);
  return value;
}

/** Returns the text of an option, or undefined. */
export function optionOf({ options }: CommandInput, name: string): string | undefined {
  const value = options[name];
  return typeof value === "string" ? value : undefined;
}

/**
 * Returns an option that is a whole number of `least` or more.
 * @throws UsageError otherwise
 */
export function numberOption(input: CommandInput, name: string, least = 0): number | undefined {
  const text = optionOf(input, name);
  if (text === undefined) return undefined;
  const number = Number(text);
  if (!/^-?\d+$/.test(text) || !Number.isSafeInteger(number) || number < least) {
    throw new UsageError(`--${name} must be a whole number of ${least} or more`);
  }
  return number;
}

/**
 * Returns the number of a name in an enumeration of the protocol.
 * @throws UsageError that lists the names
 */
export function enumOption<Value extends number>(
  names: Readonly<Record<string, Value | string>>,
  option: string,
  text: string,
): Value {
  const number = names[text.toUpperCase()];
  if (typeof number === "number" && number > 0) return number;
  const known = Object.entries(names).flatMap(([name, value]) =>
    typeof value === "number" && value > 0 ? [name] : [],
  );
  throw new UsageError(`${option} must be one of ${known.join(", ")}`);
}
