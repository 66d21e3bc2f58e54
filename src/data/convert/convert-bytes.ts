import { WorkbookError } from "../../xlsx/limits.ts";
import { streamWorkbook } from "../../xlsx/workbook.ts";
import { parseJsonText, writeJsonText } from "./json-text.ts";
import { ConversionError } from "./layout.ts";
import { readSheets } from "./read-sheets.ts";
import { toSheets, writeSheets } from "./write-sheets.ts";

/** A format that can be converted to the other. */
export type ConversionKind = "json" | "xlsx";

/**
 * Converts JSON to XLSX, or XLSX to JSON. Yields the result while it is written.
 * @throws ConversionError with the reason when the data cannot be converted exactly
 */
export async function* convertBytes(bytes: Buffer, from: ConversionKind): AsyncGenerator<Buffer> {
  try {
    if (from === "json") yield* toWorkbook(bytes);
    else yield await toJson(bytes);
  } catch (error) {
    throw toConversionError(error) ?? error;
  }
}

/** Returns undefined for an error that the data did not cause. */
function toConversionError(error: unknown): ConversionError | undefined {
  if (error instanceof WorkbookError) return new ConversionError(error.message);
  // JavaScript itself limits the call stack and the length of strings.
  if (!(error instanceof RangeError)) return undefined;
  if (/call stack/i.test(error.message)) return new ConversionError("it is nested too deeply");
  return /string length/i.test(error.message)
    ? new ConversionError("it is too large: the result exceeds the maximum length of a text")
    : undefined;
}

function toWorkbook(bytes: Buffer): AsyncGenerator<Buffer> {
  const sheets = toSheets(parseJsonText(bytes));
  const about = { creator: "Tollgate", created: new Date() };
  return streamWorkbook(about, (workbook) => writeSheets(workbook, sheets));
}

async function toJson(bytes: Buffer): Promise<Buffer> {
  return Buffer.from(writeJsonText(await readSheets(bytes)));
}
