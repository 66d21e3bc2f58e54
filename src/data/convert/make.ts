import { WorkbookError } from "../../xlsx/limits.ts";
import { streamWorkbook } from "../../xlsx/workbook.ts";
import { parseJson, writeJson } from "./json-text.ts";
import { readSheets } from "./read-sheets.ts";
import { Impossible } from "./table.ts";
import { toSheets, writeSheets } from "./write-sheets.ts";

/** What data can be converted from, and to the other. */
export type Kind = "json" | "xlsx";

/**
 * The other kind of the data, as it comes to be.
 * @throws Impossible
 */
export async function* make(bytes: Buffer, from: Kind): AsyncGenerator<Buffer> {
  try {
    if (from === "json") yield* toWorkbook(bytes);
    else yield await toJson(bytes);
  } catch (error) {
    throw ruleOf(error) ?? error;
  }
}

/** The reason in words where the data is at fault; undefined for any other error. */
function ruleOf(error: unknown): Impossible | undefined {
  if (error instanceof WorkbookError) return new Impossible(error.message);
  // A limit of the language itself.
  if (!(error instanceof RangeError)) return undefined;
  if (/call stack/i.test(error.message)) return new Impossible("it is nested too deeply");
  return /string length/i.test(error.message) ? new Impossible("it comes to more than a text can be") : undefined;
}

function toWorkbook(bytes: Buffer): AsyncGenerator<Buffer> {
  const sheets = toSheets(parseJson(bytes));
  const about = { creator: "Tollgate", created: new Date() };
  return streamWorkbook(about, (workbook) => writeSheets(workbook, sheets));
}

async function toJson(bytes: Buffer): Promise<Buffer> {
  return Buffer.from(writeJson(await readSheets(bytes)));
}
