import type { CommandDefinition, CommandOption } from "./command.ts";

/** Options of every command. */
export const commonOptions = {
  json: { meaning: "print JSON, one value a line" },
  help: { meaning: "print this help" },
} as const;

/** The list of commands. */
export function describeCommands(commands: readonly CommandDefinition[]): string {
  const width = Math.max(...commands.map(({ name }) => name.length));
  return [
    "Usage: tollgate COMMAND [OPTION ...]",
    "",
    ...commands.map(({ name, summary }) => `  ${name.padEnd(width)}  ${summary}`),
    "",
    "tollgate COMMAND --help explains a command.",
    "TOLLGATE_URL is the server, http://localhost:8080 by default. TOLLGATE_TOKEN signs in, or TOLLGATE_USERNAME and",
    "TOLLGATE_PASSWORD. serve, migrate, doctor and verify use the settings of the server instead.",
  ].join("\n");
}

/** The help of one command. */
export function describeCommand(command: CommandDefinition): string {
  const options = Object.entries<CommandOption>({ ...command.options, ...commonOptions }).map(([name, option]) => ({
    name: option.value === undefined ? `--${name}` : `--${name} ${option.value}`,
    meaning: option.meaning,
  }));
  const width = Math.max(...options.map(({ name }) => name.length));
  return [
    `Usage: ${usageOf(command)} [OPTION ...]`,
    "",
    `${command.summary}.`,
    "",
    ...options.map(({ name, meaning }) => `  ${name.padEnd(width)}  ${meaning}`),
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
    "complete -F _tollgate tollgate",
  ];
  // zsh runs bash completions through bashcompinit.
  const head = shell === "zsh" ? ["autoload -U +X bashcompinit && bashcompinit"] : [];
  return [...head, ...script].join("\n");
}

function usageOf({ name, arguments: names = [] }: CommandDefinition): string {
  const words = names.map((word) => (word.endsWith("?") ? `[${word.slice(0, -1)}]` : word));
  return ["tollgate", name, ...words].join(" ");
}
