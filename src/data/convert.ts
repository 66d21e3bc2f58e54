import { invalid } from "../core/errors.ts";
import { streamWorkbook, xlsxType } from "../xlsx/workbook.ts";
import { readSheets } from "./convert/read-sheets.ts";
import { Impossible } from "./convert/table.ts";
import { toSheets, writeSheets } from "./convert/write-sheets.ts";

/** Data as it was stored. */
export interface Stored {
  readonly content_type: string;
  readonly filename: string;
  readonly bytes: number;
  readonly read: () => AsyncIterable<Buffer>;
}

export interface Converted {
  readonly contentType: string;
  readonly extension: string;
  readonly chunks: AsyncIterable<Uint8Array> | Iterable<Uint8Array>;
}

/** What is converted is in memory as a whole, and keeps the process from anything else for as long as it takes. */
const maxBytes = 4_194_304;
const jsonType = "application/json";

/**
 * JSON as a workbook, and a workbook as JSON; what is wanted already is given as it is.
 * @throws INVALID_ARGUMENT that says why it cannot be
 */
export async function convert(stored: Stored, to: "json" | "xlsx"): Promise<Converted> {
  const from = kindOf(stored);
  if (from === undefined) throw impossible(`${stored.content_type} is neither JSON nor XLSX`);
  if (stored.bytes > maxBytes) throw impossible(`${stored.bytes} bytes are more than ${maxBytes}`);
  const bytes = await whole(stored.read());
  if (from === "xlsx") {
    if (to === "xlsx") return { contentType: xlsxType, extension: to, chunks: [bytes] };
    const json = await readSheets(bytes).catch((error: unknown) => {
      throw error instanceof Impossible ? impossible(error.message) : impossible("it is no workbook");
    });
    return { contentType: jsonType, extension: to, chunks: [Buffer.from(JSON.stringify(json))] };
  }
  if (to === "json") return { contentType: jsonType, extension: to, chunks: [bytes] };
  try {
    const sheets = toSheets(parse(bytes));
    const about = { creator: "Tollgate", created: new Date() };
    return {
      contentType: xlsxType,
      extension: to,
      chunks: streamWorkbook(about, (workbook) => writeSheets(workbook, sheets)),
    };
  } catch (error) {
    // What is nested as deep as that ends the stack.
    if (error instanceof RangeError) throw impossible("it is nested too deeply");
    throw error instanceof Impossible ? impossible(error.message) : error;
  }
}

function impossible(reason: string) {
  return invalid({ field: "data_flow_convert", message: `the data cannot be converted: ${reason}` });
}

function kindOf({ content_type: type, filename }: Stored): "json" | "xlsx" | undefined {
  const [essence = ""] = type.toLowerCase().split(/[; ]/, 1);
  if (essence === xlsxType || /\.xlsx$/i.test(filename)) return "xlsx";
  return essence === jsonType || essence.endsWith("+json") || /\.json$/i.test(filename) ? "json" : undefined;
}

function parse(bytes: Buffer): unknown {
  try {
    return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch {
    throw new Impossible("it is no JSON in UTF-8");
  }
}

async function whole(chunks: AsyncIterable<Buffer>): Promise<Buffer> {
  const all: Buffer[] = [];
  for await (const chunk of chunks) all.push(chunk);
  return Buffer.concat(all);
}
