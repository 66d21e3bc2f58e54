import { PassThrough } from "node:stream";
import { setTimeout as wait } from "node:timers/promises";
import ExcelJs from "exceljs";

export const xlsxType = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet";

/** A cell value. A text is never a formula, even if it begins with `=`. */
export type Cell = string | number | boolean | Date | null | Formula;

/** A formula and its result, which programs that do not calculate show. */
export interface Formula {
  readonly formula: string;
  readonly result: number;
}

export interface Column {
  readonly header: string;
  /** In characters. */
  readonly width: number;
  /** Number format code: "yyyy-mm-dd". */
  readonly format: string;
}

/** Text stays text even after a person edits the cell. */
export const textFormat = "@";
export const numberFormat = "#,##0";
export const dateFormat = "yyyy-mm-dd";

/** Writes rows from top to bottom. End a sheet before the next one begins. */
export interface Sheet {
  readonly name: string;
  /** The number of rows so far, with the header. */
  rows(): number;
  add(cells: readonly Cell[], style?: { readonly bold?: boolean }): void;
  /** Resolves when the reader has consumed enough to add more rows. */
  drained(): Promise<void>;
  /** @param filtered whether the header has filters */
  end(filtered?: boolean): void;
}

export interface Workbook {
  /** @param withHeader whether the first row holds the column headers and stays visible */
  sheet(name: string, columns: readonly Column[], withHeader?: boolean): Sheet;
  /** Ends the file and puts the sheets into this order. */
  end(order: readonly string[]): Promise<void>;
}

/** The maximum rows of a sheet in Excel. */
export const maxRows = 1_048_576;

const bufferBytes = 1 << 20;

/**
 * Streams an XLSX file while it is written, in constant memory. Writing stops when the reader stops.
 * @param write writes the whole workbook; it awaits `drained` regularly
 */
export async function* streamWorkbook(
  about: { readonly creator: string; readonly created: Date },
  write: (workbook: Workbook) => Promise<void>,
): AsyncGenerator<Buffer> {
  const { output, workbook } = createWorkbook(about);
  const written = write(workbook).catch((error: unknown) => void output.destroy(error as Error));
  for await (const chunk of output) yield chunk as Buffer;
  await written;
}

function createWorkbook({ creator, created }: { readonly creator: string; readonly created: Date }) {
  const output = new PassThrough({ highWaterMark: bufferBytes });
  const gone = new Promise<never>((_resolve, reject) => {
    output.once("close", () => reject(new Error("the reader of the workbook has disconnected")));
  });
  // After the end of the workbook nothing awaits this promise.
  gone.catch(() => undefined);
  const writer = new ExcelJs.stream.xlsx.WorkbookWriter({
    stream: output,
    useStyles: true,
    useSharedStrings: false,
    zip: { zlib: { level: 1 } },
    creator,
    created,
    modified: created,
  } as never);

  const workbook: Workbook = {
    sheet: (name, columns, withHeader = true) => openSheet(writer, { name, columns, withHeader, gone }),
    async end(order) {
      // exceljs keeps the order of writing, but the summary is written last and shown first.
      const inner = writer as unknown as { _worksheets: (ExcelJs.Worksheet | undefined)[] };
      inner._worksheets = order.map((name) => inner._worksheets.find((sheet) => sheet?.name === name));
      await Promise.race([writer.commit(), gone]);
    },
  };
  return { output, workbook };
}

interface SheetOptions {
  readonly name: string;
  readonly columns: readonly Column[];
  readonly withHeader: boolean;
  /** Rejects when the reader disconnects. */
  readonly gone: Promise<never>;
}

function openSheet(
  writer: ExcelJs.stream.xlsx.WorkbookWriter,
  { name, columns, withHeader, gone }: SheetOptions,
): Sheet {
  const sheet = writer.addWorksheet(name, withHeader ? { views: [{ state: "frozen", ySplit: 1 }] } : {});
  sheet.columns = columns.map(({ width, format }) => ({ width, style: { numFmt: format } }));
  let rows = 0;
  const add: Sheet["add"] = (cells, { bold = false } = {}) => {
    rows += 1;
    const row = sheet.addRow(cells);
    if (bold) row.font = { bold: true };
    // exceljs serializes each style object that it has not seen, so all cells of a column share one.
    else row.eachCell((cell, column) => void (cell.style = sheet.getColumn(column).style));
    row.commit();
  };
  if (withHeader)
    add(
      columns.map(({ header }) => header),
      { bold: true },
    );
  return {
    name,
    rows: () => rows,
    add,
    async drained() {
      // The sheet's own stream has no backpressure. The stream it is piped to has, once the earlier sheets are written.
      const { stream } = sheet as unknown as { stream: { pipes: PassThrough[] } };
      while (stream.pipes.length === 0) await Promise.race([wait(5), gone]);
      // The callback of an empty write runs after all earlier writes.
      const written = new Promise<void>((resolve) => stream.pipes[0]?.write("", () => resolve()));
      await Promise.race([written, gone]);
    },
    end(filtered = false) {
      if (filtered) sheet.autoFilter = { from: { row: 1, column: 1 }, to: { row: rows, column: columns.length } };
      sheet.commit();
    },
  };
}
