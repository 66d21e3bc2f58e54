import { parseExactNumber } from "./exact-number.ts";
import { WorkbookError } from "./limits.ts";
import { type DateSystem, formatSerial, readIsoValue } from "./serial.ts";
import type { StyleShapes } from "./styles.ts";
import { parseBoolean, unescapeText } from "./xml.ts";

/** Dates, times and durations are texts in ISO 8601. */
export type CellValue = string | number | boolean;

/** A cell as the file holds it. */
export interface RawCell {
  readonly type: string;
  readonly style: string;
  /** The element `f`: undefined for a cell without a formula, empty for a shared formula. */
  readonly formula: string | undefined;
  /** The element `v`; undefined when it is absent. */
  readonly value: string | undefined;
  /** The element `is`. */
  readonly inline: string | undefined;
}

/** The parts of a workbook that its cells refer to. */
export interface CellContext {
  readonly strings: readonly string[];
  readonly shapes: StyleShapes;
  readonly dateSystem: DateSystem;
  /** The file asks the program that opens it to calculate its formulas. */
  readonly mustCalculate: boolean;
}

/**
 * Reads the value of a cell (ECMA-376 part 1, 18.3.1.4).
 * @param where names the cell in messages
 * @returns undefined for an empty cell
 * @throws WorkbookError when the value is missing, invalid or not exact
 */
export function readCell(cell: RawCell, context: CellContext, where: () => string): CellValue | undefined {
  const { type, value, inline, formula } = cell;
  const refuse = (reason: string) => new WorkbookError(`${where()} ${reason}`);
  if (type === "inlineStr") {
    if (inline === undefined && value !== undefined) throw refuse("has the type of an inline text, and no inline text");
    return inline;
  }
  if (inline !== undefined) throw refuse("has an inline text, and another type");
  if (type === "str") return value === undefined && formula === undefined ? undefined : unescapeText(value ?? "");
  const text = value?.trim() ?? "";
  if (text === "") {
    if (formula !== undefined) throw refuse("is a formula whose result is not in the file");
    return undefined;
  }
  const read = readers[type];
  if (read === undefined || !Object.hasOwn(readers, type)) throw refuse(`has an unknown type: ${type}`);
  return read(text, { ...context, cell, refuse });
}

interface Reading extends CellContext {
  readonly cell: RawCell;
  readonly refuse: (reason: string) => WorkbookError;
}

const readers: Readonly<Record<string, (text: string, reading: Reading) => CellValue>> = {
  n: readNumber,
  b(text, { refuse }) {
    const value = parseBoolean(text);
    if (value === undefined) throw refuse(`must be true or false: ${echo(text)}`);
    return value;
  },
  s(text, { strings, refuse }) {
    const string = /^\d+$/.test(text) ? strings[Number(text)] : undefined;
    if (string === undefined) throw refuse(`refers to a text that is not in the file: ${echo(text)}`);
    return string;
  },
  d(text, reading) {
    const value = readIsoValue(text, shapesOf(reading)(1));
    if (value === undefined) throw reading.refuse(`must be a date or time in ISO 8601: ${echo(text)}`);
    return value;
  },
  e(text, { refuse }) {
    throw refuse(`is an error: ${echo(text)}`);
  },
};

function readNumber(text: string, reading: Reading): CellValue {
  const value = parseExactNumber(text);
  if (value === undefined) {
    throw reading.refuse(
      Number.isNaN(Number(text))
        ? `must be a number: ${echo(text)}`
        : `has a number that cannot be kept exactly: ${echo(text)}`,
    );
  }
  // LibreOffice writes a boolean as a number with the formula TRUE() or FALSE().
  if (/^(TRUE|FALSE)\(\)$/i.test(reading.cell.formula ?? "")) return value !== 0;
  // Programs that do not calculate store 0 for every formula and request a calculation on opening.
  if (value === 0 && reading.cell.formula !== undefined && reading.mustCalculate) {
    throw reading.refuse(
      "is a formula whose result is not in the file: the file asks to be calculated when it is opened",
    );
  }
  return formatSerial(value, shapesOf(reading)(value), reading.dateSystem) ?? value;
}

function shapesOf({ cell, shapes, refuse }: Reading) {
  const shapeOf = shapes(Number(cell.style));
  if (shapeOf === undefined) throw refuse(`has a style that is not in the file: ${echo(cell.style)}`);
  return shapeOf;
}

function echo(text: string): string {
  return text.slice(0, 60);
}
