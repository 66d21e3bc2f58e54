import { bulkPieceRows, pauseBulkWork } from "../shared/bulk-work.ts";
import { type Cell, type Column, numberFormat, type Sheet, textFormat } from "../xlsx/workbook.ts";
import type { RowRange, Sums, UsageTotal } from "./sums.ts";

/** The head of the report. */
export interface ReportHead {
  /** YYYY-MM-DD. Undefined: the default in each user's time zone. */
  readonly from: string | undefined;
  readonly to: string | undefined;
  /** Undefined: all users of the scope. */
  readonly username: string | undefined;
  readonly requestedBy: string;
  readonly made: Date;
}

export const summaryColumns: readonly Column[] = [
  { header: "", width: 24, format: textFormat },
  { header: "", width: 28, format: textFormat },
  ...["", "", ""].map((header) => ({ header, width: 16, format: numberFormat })),
];

const numbers = ["Requests", "Points", "Unique points"];

export interface SummaryOptions {
  readonly head: ReportHead;
  readonly sums: Sums;
  readonly rowsPerSheet: number;
}

/**
 * Writes the head of the report and the totals by company and by user, as formulas over the details. When the users do not
 * fit on the sheet, they are left out and the totals are numbers. When the companies do not fit, they are left out.
 */
export async function writeSummary(sheet: Sheet, { head, sums, rowsPerSheet }: SummaryOptions): Promise<void> {
  const heading = (...cells: Cell[]) => sheet.add(cells, { bold: true });
  heading("Usage");
  sheet.add(["From", head.from ?? "the first day of each user's month"]);
  sheet.add(["To (excluded)", head.to ?? "each user's present day"]);
  sheet.add(["User", head.username ?? "all users"]);
  sheet.add(["Asked by", head.requestedBy]);
  sheet.add(["Made", head.made.toISOString().replace(/\.\d+Z$/, "Z")]);
  sheet.add([]);

  const [users, companies] = [sums.users(), sums.companies()];
  // The company table comes first. Its formulas refer to user rows that are written later.
  const usersFrom = sheet.rows() + companies.length + 5;
  const usersTo = usersFrom + Math.max(users.length, 1) - 1;
  const fits = usersTo < rowsPerSheet;
  // Three more rows: the heading, the total, and the note on users.
  const companiesFit = sheet.rows() + companies.length + 4 <= rowsPerSheet;
  const ofUsers = (column: string) => `${column}$${usersFrom}:${column}$${usersTo}`;
  const sumOfUsers = (column: string) => (users.length === 0 ? "0" : `SUM(${ofUsers(column)})`);
  const total = ["Total", null, ...cells(totalOf(companies), fits ? sumOfUsers : undefined)];

  heading("Company", null, ...numbers);
  await addRows(sheet, companiesFit ? companies : [], (company) => {
    // EXACT: SUMIFS treats acme and ACME, and 0100 and 100, as equal.
    const isOfCompany = `EXACT(${ofUsers("$B")},$A${sheet.rows() + 1})`;
    const sum = (column: string) => `SUMPRODUCT(${isOfCompany}*${ofUsers(column)})`;
    return [company.companyKey, null, ...cells(company.total, fits ? sum : undefined)];
  });
  heading(...total);
  sheet.add(companiesFit ? [] : [`${companies.length} companies are too many for a sheet: see the details`]);

  if (fits) {
    heading("User", "Company", ...numbers);
    await addRows(sheet, users, ({ username, companyKey, total: used, rows }) => {
      const sum = (column: string) => `SUM(${ranges(rows, detailOf[column] ?? "")})`;
      return [username, companyKey, ...cells(used, rows.length > maxRanges ? undefined : sum)];
    });
    if (users.length === 0) sheet.add([]);
    heading(...total);
  } else sheet.add([`${users.length} users are too many for a sheet: see the details`]);
  sheet.end();
}

/** Adds rows. They wait in memory until the sheet is drained. */
async function addRows<Of>(sheet: Sheet, all: readonly Of[], toRow: (entry: Of) => Cell[]): Promise<void> {
  for (const entry of all) {
    if (sheet.rows() % bulkPieceRows === 0) {
      await sheet.drained();
      await pauseBulkWork();
    }
    sheet.add(toRow(entry));
  }
}

/** Excel allows 255 arguments and 8192 characters in a formula, and does not open a file that exceeds them. */
const maxRanges = 200;

/** The columns of the details that each column of the summary adds up. */
const detailOf: Readonly<Record<string, string>> = { C: "F", D: "G", E: "H" };

/** Returns formulas with their results, or the results alone. */
function cells({ requests, points, uniquePoints }: UsageTotal, formulaOf?: (column: string) => string): Cell[] {
  const cell = (column: string, result: number) =>
    formulaOf === undefined ? result : { formula: formulaOf(column), result };
  return [cell("C", requests), cell("D", points), cell("E", uniquePoints)];
}

function totalOf(all: readonly { readonly total: UsageTotal }[]): UsageTotal {
  const sum = (name: keyof UsageTotal) => all.reduce((sums, { total }) => sums + total[name], 0);
  return { requests: sum("requests"), points: sum("points"), uniquePoints: sum("uniquePoints") };
}

function ranges(rows: readonly RowRange[], column: string): string {
  return rows.map(({ sheet, first, last }) => `'${sheet}'!${column}${first}:${column}${last}`).join(",");
}
