import { Method_Group, Service_Name } from "#gen/tollgate/v1/tracedata_pb.js";
import { bulkPieceRows, pauseBulkWork } from "../shared/bulk-work.ts";
import {
  type Cell,
  type Column,
  dateFormat,
  maxRows,
  numberFormat,
  type Sheet,
  streamWorkbook,
  textFormat,
  type Workbook,
} from "../xlsx/workbook.ts";
import type { UsageRow } from "./store.ts";
import { type ReportHead, summaryColumns, writeSummary } from "./summary.ts";
import { createSums, type Sums } from "./sums.ts";

const detailColumns: readonly Column[] = [
  { header: "User", width: 24, format: textFormat },
  { header: "Company", width: 24, format: textFormat },
  { header: "Date", width: 12, format: dateFormat },
  { header: "Service", width: 16, format: textFormat },
  { header: "Method group", width: 16, format: textFormat },
  { header: "Requests", width: 14, format: numberFormat },
  { header: "Points", width: 14, format: numberFormat },
  { header: "Unique points", width: 14, format: numberFormat },
];

/**
 * Streams the report of a period as a workbook. Details are written as the pages arrive. Sums by user, company and day are
 * collected in memory and written after them.
 */
export function streamReport(
  head: ReportHead,
  pages: AsyncIterable<readonly UsageRow[]>,
  rowsPerSheet = maxRows,
): AsyncGenerator<Buffer> {
  return streamWorkbook({ creator: head.requestedBy, created: head.made }, async (workbook) => {
    const sums = createSums();
    const details = await writeDetails(openTable(workbook, "Details", detailColumns, rowsPerSheet), pages, sums);
    const days = await writeDays(openTable(workbook, "By day", dayColumns(sums.methods()), rowsPerSheet), sums);
    await writeSummary(workbook.sheet("Summary", summaryColumns, false), { head, sums, rowsPerSheet });
    await workbook.end(["Summary", ...details, ...days]);
  });
}

/** A table that continues on another sheet when a sheet is full. */
interface SplitTable {
  /** @returns the sheet that the row is in */
  add(cells: readonly Cell[]): Sheet;
  drained(): Promise<void>;
  /** @returns the names of the sheets */
  end(): string[];
}

function openTable(workbook: Workbook, name: string, columns: readonly Column[], rowsPerSheet: number): SplitTable {
  const names = [name];
  let sheet = workbook.sheet(name, columns);
  return {
    add(cells) {
      if (sheet.rows() === rowsPerSheet) {
        sheet.end(true);
        names.push(`${name} ${names.length + 1}`);
        sheet = workbook.sheet(names.at(-1) ?? "", columns);
      }
      sheet.add(cells);
      return sheet;
    },
    drained: () => sheet.drained(),
    end() {
      sheet.end(true);
      return names;
    },
  };
}

async function writeDetails(
  table: SplitTable,
  pages: AsyncIterable<readonly UsageRow[]>,
  sums: Sums,
): Promise<string[]> {
  for await (const page of pages) {
    for (const row of page) {
      const { username, company_key, date, service, method_group, requests, points, unique_points } = row;
      const [serviceName, group] = [Service_Name[service] ?? "", Method_Group[method_group] ?? ""];
      const cells = [username, company_key, new Date(date), serviceName, group, requests, points, unique_points];
      const sheet = table.add(cells);
      sums.add(row, { sheet: sheet.name, row: sheet.rows() });
    }
    await table.drained();
  }
  return table.end();
}

/** Writes a row for each day and a column for each service and method group, as charts need them. */
async function writeDays(table: SplitTable, { days, methods }: Sums): Promise<string[]> {
  const all = methods();
  for (const [index, { date, total, points }] of days().entries()) {
    if (index % bulkPieceRows === 0) await pauseBulkWork();
    const { requests, points: sum, uniquePoints } = total;
    table.add([new Date(date), requests, sum, uniquePoints, ...all.map((method) => points.get(method) ?? 0)]);
  }
  return table.end();
}

function dayColumns(methods: readonly string[]): Column[] {
  return [
    { header: "Date", width: 12, format: dateFormat },
    ...["Requests", "Points", "Unique points"].map((header) => ({ header, width: 14, format: numberFormat })),
    ...methods.map((header) => ({ header, width: header.length + 4, format: numberFormat })),
  ];
}
