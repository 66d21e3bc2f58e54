import type { CommandDefinition, CommandOption } from "./command.ts";

const terminalColumns = 80;

/** Options of every command. */
export const commonOptions = {
  json: { meaning: "print JSON, one value a line" },
  help: { meaning: "print this help" },
} as const;

const signIn =
  "TOLLGATE_URL is the server, http://localhost:8080 by default. TOLLGATE_TOKEN signs in, or TOLLGATE_USERNAME and " +
  "TOLLGATE_PASSWORD. serve, migrate, doctor, verify, webhook, backup and restore use the settings of the server instead.";

/** The list of commands. */
export function describeCommands(commands: readonly CommandDefinition[]): string {
  return [
    "Usage: tollgate COMMAND [OPTION ...]",
    "",
    ...describeList(commands.map(({ name, summary }) => ({ name, meaning: summary }))),
    "",
    "tollgate COMMAND --help explains a command.",
    ...wrap(signIn, terminalColumns),
  ].join("\n");
}

/** The help of one command. */
export function describeCommand(command: CommandDefinition): string {
  const options = Object.entries<CommandOption>({ ...command.options, ...commonOptions }).map(
    ([name, { short, value, meaning }]) => ({
      name: `${short === undefined ? "" : `-${short}, `}--${name}${value === undefined ? "" : ` ${value}`}`,
      meaning,
    }),
  );
  return [
    `Usage: ${usageOf(command)} [OPTION ...]`,
    "",
    ...wrap(`${command.summary}.`, terminalColumns),
    "",
    ...describeList(options),
  ].join("\n");
}

/** The page docs/command-line.md. */
export function createCommandPage(commands: readonly CommandDefinition[], intro: string): string {
  return [
    intro,
    ...commands.map((command) => `## tollgate ${command.name}\n\n\`\`\`text\n${describeCommand(command)}\n\`\`\`\n`),
  ].join("\n");
}

/** A completion script for bash or zsh. */
export function createCompletion(commands: readonly CommandDefinition[], shell: "bash" | "zsh"): string {
  const firsts = [...new Set(commands.map(({ name }) => name.split(" ")[0] ?? ""))];
  const cases = firsts.map((first) => {
    const seconds = commands
      .filter(({ name }) => name.startsWith(`${first} `))
      .map(({ name }) => name.slice(first.length + 1));
    const options = commands
      .filter(({ name }) => name === first || name.startsWith(`${first} `))
      .flatMap(({ options: own }) => Object.keys({ ...own, ...commonOptions }).map((name) => `--${name}`));
    return `    ${first}) words="${[...seconds, ...new Set(options)].join(" ")}" ;;`;
  });
  const script = [
    "_tollgate() {",
    '  local words="" current="${COMP_WORDS[COMP_CWORD]}"',
    '  if [ "$COMP_CWORD" -eq 1 ]; then',
    `    words="${firsts.join(" ")}"`,
    '  else case "${COMP_WORDS[1]}" in',
    ...cases,
    "  esac; fi",
    '  COMPREPLY=($(compgen -W "$words" -- "$current"))',
    "}",
    // Without a match, such as behind --file, the shell completes names of files.
    "complete -o default -F _tollgate tollgate",
  ];
  // zsh runs bash completions through bashcompinit.
  const head =
    shell === "zsh" ? ["autoload -U compinit && compinit", "autoload -U +X bashcompinit && bashcompinit"] : [];
  return [...head, ...script].join("\n");
}

function usageOf({ name, arguments: names = [] }: CommandDefinition): string {
  const words = names.map((word) => (word.endsWith("?") ? `[${word.slice(0, -1)}]` : word));
  return ["tollgate", name, ...words].join(" ");
}

/** Names in one column, meanings in another. */
function describeList(list: readonly { readonly name: string; readonly meaning: string }[]): string[] {
  const width = Math.max(...list.map(({ name }) => name.length)) + 4;
  return list.flatMap(({ name, meaning }) =>
    wrap(meaning, terminalColumns - width).map((line, index) => (index === 0 ? `  ${name}` : "").padEnd(width) + line),
  );
}

/** Breaks a text into lines of at most `width` columns. */
function wrap(text: string, width: number): string[] {
  const lines: string[] = [];
  let line = "";
  for (const word of text.split(" ")) {
    if (line !== "" && line.length + 1 + word.length > width) {
      lines.push(line);
      line = word;
    } else line = line === "" ? word : `${line} ${word}`;
  }
  return [...lines, line];
}
