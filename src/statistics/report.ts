import { Method_Group, Service_Name } from "#gen/tollgate/v1/tracedata_pb.js";
import {
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
import { summaryColumns, writeSummary } from "./summary.ts";
import { createSums, type Sums } from "./sums.ts";

/** What the report says about itself. */
export interface ReportHead {
  /** YYYY-MM-DD; undefined: each user's own. */
  readonly from: string | undefined;
  readonly to: string | undefined;
  /** Empty: everybody. */
  readonly username: string;
  readonly askedBy: string;
  readonly made: Date;
}

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
 * The report of a period, as it is read. The details are written as they come; what they add up to is kept by user, and
 * written after them.
 */
export function streamReport(
  head: ReportHead,
  pages: AsyncIterable<readonly UsageRow[]>,
  rowsPerSheet = maxRows,
): AsyncGenerator<Buffer> {
  return streamWorkbook({ creator: head.askedBy, created: head.made }, async (workbook) => {
    const sums = createSums();
    const details = await writeDetails(workbook, { pages, sums, rowsPerSheet });
    writeDays(workbook, sums);
    await writeSummary(workbook.sheet("Summary", summaryColumns, false), { head, sums, rowsPerSheet });
    await workbook.end(["Summary", ...details, "By day"]);
  });
}

interface DetailsOptions {
  readonly pages: AsyncIterable<readonly UsageRow[]>;
  readonly sums: Sums;
  readonly rowsPerSheet: number;
}

/** @returns the names of the sheets: a sheet has a last row */
async function writeDetails(workbook: Workbook, { pages, sums, rowsPerSheet }: DetailsOptions): Promise<string[]> {
  const names = ["Details"];
  let sheet: Sheet = workbook.sheet("Details", detailColumns);
  for await (const page of pages) {
    for (const row of page) {
      if (sheet.rows() === rowsPerSheet) {
        sheet.end(true);
        names.push(`Details ${names.length + 1}`);
        sheet = workbook.sheet(names.at(-1) ?? "", detailColumns);
      }
      const { username, company_key, date, service, method_group, requests, points, unique_points } = row;
      const [serviceName, group] = [Service_Name[service] ?? "", Method_Group[method_group] ?? ""];
      sheet.add([username, company_key, new Date(date), serviceName, group, requests, points, unique_points]);
      sums.add(row, { sheet: sheet.name, row: sheet.rows() });
    }
    await sheet.drained();
  }
  sheet.end(true);
  return names;
}

/** A row a day, a column a service and method group: what a chart is drawn from. */
function writeDays(workbook: Workbook, { days, methods }: Sums): void {
  const columns: Column[] = [
    { header: "Date", width: 12, format: dateFormat },
    ...["Requests", "Points", "Unique points"].map((header) => ({ header, width: 14, format: numberFormat })),
    ...methods().map((header) => ({ header, width: header.length + 4, format: numberFormat })),
  ];
  const sheet = workbook.sheet("By day", columns);
  for (const { date, total, points } of days()) {
    const { requests, points: all, uniquePoints } = total;
    sheet.add([new Date(date), requests, all, uniquePoints, ...methods().map((method) => points.get(method) ?? 0)]);
  }
  sheet.end(true);
}
