import { settings } from "../../src/config.ts";

/** The rows of the README's table of settings. */
export function settingsTable(): string {
  return Object.entries(settings)
    .map(
      ([name, { default: fallback, meaning }]) =>
        `| \`${name}\` | ${fallback === "" ? "" : `\`${fallback}\``} | ${meaning} |`,
    )
    .join("\n");
}
