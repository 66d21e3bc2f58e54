import { streamWorkbook } from "../../xlsx/workbook.ts";
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

/** What a limit of the language itself says of the data. */
function ruleOf(error: unknown): Impossible | undefined {
  if (!(error instanceof RangeError)) return undefined;
  if (/call stack/i.test(error.message)) return new Impossible("it is nested too deeply");
  return /string length/i.test(error.message) ? new Impossible("it comes to more than a text can be") : undefined;
}

function toWorkbook(bytes: Buffer): AsyncGenerator<Buffer> {
  const { value, text } = parse(bytes);
  checkNumbers(text);
  const sheets = toSheets(value);
  const about = { creator: "Tollgate", created: new Date() };
  return streamWorkbook(about, (workbook) => writeSheets(workbook, sheets));
}

async function toJson(bytes: Buffer): Promise<Buffer> {
  const json = await readSheets(bytes).catch((error: unknown) => {
    throw error instanceof Impossible ? error : (ruleOf(error) ?? new Impossible("it is no workbook"));
  });
  return Buffer.from(JSON.stringify(json));
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
