import pLimit from "p-limit";
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
  readonly bytes: Buffer;
}

/** What is converted is in memory as a whole, and keeps the process from anything else for as long as it takes. */
const maxBytes = 4_194_304;
const jsonType = "application/json";

/** One at a time: the memory that one takes is not taken many times over. */
const inTurn = pLimit(1);

/**
 * JSON as a workbook, and a workbook as JSON; what is wanted already is given as it is.
 * @throws INVALID_ARGUMENT that says why it cannot be
 */
export async function convert(stored: Stored, to: "json" | "xlsx"): Promise<Converted> {
  const from = kindOf(stored);
  if (from === undefined) throw impossible(`${stored.content_type} is neither JSON nor XLSX`);
  if (stored.bytes > maxBytes) throw impossible(`${stored.bytes} bytes are more than ${maxBytes}`);
  const contentType = to === "json" ? jsonType : xlsxType;
  return inTurn(async () => {
    const bytes = await whole(stored.read());
    return { contentType, extension: to, bytes: await made(bytes, from, to) };
  });
}

async function made(bytes: Buffer, from: "json" | "xlsx", to: "json" | "xlsx"): Promise<Buffer> {
  try {
    if (from === "json") {
      const json = parse(bytes);
      return to === "json" ? bytes : await toWorkbook(json);
    }
    return to === "xlsx" ? bytes : await toJson(bytes);
  } catch (error) {
    // What is nested as deep as that ends the stack.
    if (error instanceof RangeError) throw impossible("it is nested too deeply");
    throw error instanceof Impossible ? impossible(error.message) : error;
  }
}

/** All of it at once: a slow reader keeps what it comes to, not what it is made of. */
function toWorkbook({ value, text }: Parsed): Promise<Buffer> {
  checkNumbers(text);
  const sheets = toSheets(value);
  const about = { creator: "Tollgate", created: new Date() };
  return whole(streamWorkbook(about, (workbook) => writeSheets(workbook, sheets)));
}

async function toJson(bytes: Buffer): Promise<Buffer> {
  const json = await readSheets(bytes).catch((error: unknown) => {
    throw error instanceof Impossible ? error : new Impossible("it is no workbook");
  });
  return Buffer.from(JSON.stringify(json));
}

function impossible(reason: string) {
  return invalid({ field: "data_flow_convert", message: `the data cannot be converted: ${reason}` });
}

function kindOf({ content_type: type, filename }: Stored): "json" | "xlsx" | undefined {
  const [essence = ""] = type.toLowerCase().split(/[; ]/, 1);
  if (essence === xlsxType || /\.xlsx$/i.test(filename)) return "xlsx";
  return essence === jsonType || essence.endsWith("+json") || /\.json$/i.test(filename) ? "json" : undefined;
}

interface Parsed {
  readonly value: unknown;
  readonly text: string;
}

function parse(bytes: Buffer): Parsed {
  try {
    const text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
    return { value: JSON.parse(text), text };
  } catch {
    throw new Impossible("it is no JSON in UTF-8");
  }
}

/** @throws Impossible for an integer that JavaScript and Excel, which count in doubles, have as another one */
function checkNumbers(json: string): void {
  // Texts are passed over, digits and all.
  for (const [token] of json.matchAll(/"(?:[^"\\]+|\\.)*"|-?\d+(?:\.\d+)?(?:e[+-]?\d+)?/gi)) {
    if (/^-?\d{16,}$/.test(token) && String(Number(token)) !== token) {
      throw new Impossible(`a number is too long to be kept: ${token.slice(0, 60)}`);
    }
  }
}

async function whole(chunks: AsyncIterable<Buffer>): Promise<Buffer> {
  const all: Buffer[] = [];
  for await (const chunk of chunks) all.push(chunk);
  return Buffer.concat(all);
}
