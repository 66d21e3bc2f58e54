import { stripVTControlCharacters } from "node:util";
import type { CommandOutput, OutputRow } from "./command.ts";

export interface OutputOptions {
  readonly stdout: NodeJS.WritableStream & { readonly columns?: number };
  readonly stderr: NodeJS.WritableStream & { readonly isTTY?: boolean };
  readonly isJson: boolean;
}

/** Clears the line of a terminal, and goes to its start. */
export const clearedLine = "\r\u001B[K";

/** Creates the output of a command. */
export function createOutput({ stdout, stderr, isJson }: OutputOptions): CommandOutput {
  const formatRows = createTable(stdout.columns ?? Number.POSITIVE_INFINITY);
  let hasProgress = false;
  const clearProgress = () => {
    if (hasProgress) stderr.write(clearedLine);
    hasProgress = false;
  };
  return {
    rows(rows) {
      clearProgress();
      if (isJson) stdout.write(rows.map((row) => `${JSON.stringify(row)}\n`).join(""));
      else if (rows.length > 0) stdout.write(formatRows(rows));
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

/** A number of bytes for people. */
export function formatBytes(bytes: number): string {
  return bytes < 1e6 ? `${(bytes / 1e3).toFixed(1)} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
}

/**
 * Returns a function that aligns rows under their headings: numbers to the right, texts to the left. Rows of more
 * than one and a half lines of the terminal become blocks with a line for each value. Later rows continue the table, without headings.
 */
function createTable(terminalColumns: number): (rows: readonly OutputRow[]) => string {
  const widths = new Map<string, number>();
  return (rows) => {
    const isFirst = widths.size === 0;
    const names = [...new Set(rows.flatMap((row) => Object.keys(row)))];
    const columns = names.map((name) => {
      const texts = rows.map((row) => textOf(row[name]));
      const width = Math.max(widths.get(name) ?? name.length, ...texts.map((text) => text.length));
      widths.set(name, width);
      const values = rows.map((row) => row[name]).filter((value) => value !== undefined && value !== null);
      const isNumber = values.length > 0 && values.every((value) => typeof value === "number");
      const pad = (text: string) => (isNumber ? text.padStart(width) : text.padEnd(width));
      return { width, heading: pad(name.toUpperCase()), cells: texts.map(pad) };
    });
    if (columns.reduce((sum, { width }) => sum + width + 2, -2) > 1.5 * terminalColumns)
      return rows.map(toBlock).join("");
    const lines = rows.map((_row, index) => columns.map(({ cells }) => cells[index]));
    if (isFirst) lines.unshift(columns.map(({ heading }) => heading));
    return lines.map((cells) => `${cells.join("  ").trimEnd()}\n`).join("");
  };
}

/** Returns the values that a row has, a line each. */
function toBlock(row: OutputRow): string {
  const width = Math.max(...Object.keys(row).map((name) => name.length));
  const values = Object.entries(row).filter(([, value]) => value !== undefined && value !== null && value !== "");
  const lines = values.map(([name, value]) => `${name.toUpperCase().padEnd(width)}  ${textOf(value)}\n`);
  return `${lines.join("")}\n`;
}

/** Names come from callers: control characters must not reach the terminal. */
function textOf(value: OutputRow[string]): string {
  if (value === undefined || value === null) return "-";
  // oxlint-disable-next-line eslint/no-control-regex -- Control characters are what is removed.
  return stripVTControlCharacters(String(value)).replaceAll(/[\u0000-\u001F\u007F]/g, " ");
}
