import { stripVTControlCharacters } from "node:util";
import type { CommandOutput, OutputRow } from "./command.ts";

export interface OutputOptions {
  readonly stdout: NodeJS.WritableStream;
  readonly stderr: NodeJS.WritableStream & { readonly isTTY?: boolean };
  readonly isJson: boolean;
}

/** Creates the output of a command. */
export function createOutput({ stdout, stderr, isJson }: OutputOptions): CommandOutput {
  let hasProgress = false;
  const clearProgress = () => {
    if (hasProgress) stderr.write("\r\u001B[K");
    hasProgress = false;
  };
  return {
    rows(rows) {
      clearProgress();
      if (isJson) stdout.write(rows.map((row) => `${JSON.stringify(row)}\n`).join(""));
      else if (rows.length > 0) stdout.write(`${formatTable(rows)}\n`);
    },
    value(value, text) {
      clearProgress();
      stdout.write(isJson ? `${JSON.stringify(value)}\n` : `${text}\n`);
    },
    note(message) {
      clearProgress();
      stderr.write(`${message}\n`);
    },
    progress(message) {
      if (stderr.isTTY !== true) return;
      clearProgress();
      stderr.write(message);
      hasProgress = true;
    },
  };
}

/** Aligns rows under their headings: numbers to the right, texts to the left. */
export function formatTable(rows: readonly OutputRow[]): string {
  const names = [...new Set(rows.flatMap((row) => Object.keys(row)))];
  const columns = names.map((name) => {
    const texts = rows.map((row) => textOf(row[name]));
    const isNumber = rows.every(
      (row) => row[name] === undefined || row[name] === null || typeof row[name] === "number",
    );
    const width = Math.max(name.length, ...texts.map((text) => text.length));
    const pad = (text: string) => (isNumber ? text.padStart(width) : text.padEnd(width));
    return { heading: pad(name.toUpperCase()), cells: texts.map(pad) };
  });
  const lines = [
    columns.map(({ heading }) => heading),
    ...rows.map((_row, index) => columns.map(({ cells }) => cells[index])),
  ];
  return lines.map((cells) => cells.join("  ").trimEnd()).join("\n");
}

/** Names come from callers: control characters must not reach the terminal. */
function textOf(value: OutputRow[string]): string {
  if (value === undefined || value === null) return "-";
  // oxlint-disable-next-line eslint/no-control-regex -- Control characters are what is removed.
  return stripVTControlCharacters(String(value)).replaceAll(/[\u0000-\u001F\u007F]/g, " ");
}
