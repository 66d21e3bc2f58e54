import { WorkbookError } from "../../xlsx/limits.ts";
import { streamWorkbook } from "../../xlsx/workbook.ts";
import { parseJsonText, writeJsonText } from "./json-text.ts";
import { readSheets } from "./read-sheets.ts";
import { ConversionError } from "./table.ts";
import { toSheets, writeSheets } from "./write-sheets.ts";

/** What data can be converted from, and to the other. */
export type ConversionKind = "json" | "xlsx";

/**
 * The other kind of the data, as it comes to be.
 * @throws Impossible
 */
export async function* make(bytes: Buffer, from: ConversionKind): AsyncGenerator<Buffer> {
  try {
    if (from === "json") yield* toWorkbook(bytes);
    else yield await toJson(bytes);
  } catch (error) {
    throw ruleOf(error) ?? error;
  }
}

/** The reason in words where the data is at fault; undefined for any other error. */
function ruleOf(error: unknown): ConversionError | undefined {
  if (error instanceof WorkbookError) return new ConversionError(error.message);
  // A limit of the language itself.
  if (!(error instanceof RangeError)) return undefined;
  if (/call stack/i.test(error.message)) return new ConversionError("it is nested too deeply");
  return /string length/i.test(error.message) ? new ConversionError("it comes to more than a text can be") : undefined;
}

function toWorkbook(bytes: Buffer): AsyncGenerator<Buffer> {
  const sheets = toSheets(parseJsonText(bytes));
  const about = { creator: "Tollgate", created: new Date() };
  return streamWorkbook(about, (workbook) => writeSheets(workbook, sheets));
}

async function toJson(bytes: Buffer): Promise<Buffer> {
  return Buffer.from(writeJsonText(await readSheets(bytes)));
}
