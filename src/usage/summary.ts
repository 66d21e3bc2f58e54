import { type Cell, type Column, numberFormat, type Sheet, textFormat } from "../xlsx/workbook.ts";
import type { RowRange, Sums, UsageTotal } from "./sums.ts";

/** What the report says about itself. */
export interface ReportHead {
  /** YYYY-MM-DD; undefined: each user's own. */
  readonly from: string | undefined;
  readonly to: string | undefined;
  /** Undefined: everybody. */
  readonly username: string | undefined;
  readonly askedBy: string;
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
 * Who asked for what, and the totals by company and by user: formulas, down to the details. Users who are too many for
 * the sheet are left to the details, and the companies' totals are numbers then; so are companies that are too many.
 */
export async function writeSummary(sheet: Sheet, { head, sums, rowsPerSheet }: SummaryOptions): Promise<void> {
  const heading = (...cells: Cell[]) => sheet.add(cells, { bold: true });
  heading("Usage");
  sheet.add(["From", head.from ?? "the first day of each user's month"]);
  sheet.add(["To (excluded)", head.to ?? "each user's present day"]);
  sheet.add(["User", head.username ?? "everybody"]);
  sheet.add(["Asked by", head.askedBy]);
  sheet.add(["Made", head.made.toISOString().replace(/\.\d+Z$/, "Z")]);
  sheet.add([]);

  const [users, companies] = [sums.users(), sums.companies()];
  // The companies' table comes first and adds up the users', whose rows are known before they are written.
  const usersFrom = sheet.rows() + companies.length + 5;
  const usersTo = usersFrom + Math.max(users.length, 1) - 1;
  const fits = usersTo < rowsPerSheet;
  // Beside them: the heading, the total, and what is said of the users.
  const companiesFit = sheet.rows() + companies.length + 4 <= rowsPerSheet;
  const ofUsers = (column: string) => `${column}$${usersFrom}:${column}$${usersTo}`;
  const sumOfUsers = (column: string) => (users.length === 0 ? "0" : `SUM(${ofUsers(column)})`);
  const total = ["Total", null, ...cells(totalOf(companies), fits ? sumOfUsers : undefined)];

  heading("Company", null, ...numbers);
  await addRows(sheet, companiesFit ? companies : [], (company) => {
    // Exactly: SUMIFS would take acme for ACME, and 0100 for 100.
    const isIts = `EXACT(${ofUsers("$B")},$A${sheet.rows() + 1})`;
    const sum = (column: string) => `SUMPRODUCT(${isIts}*${ofUsers(column)})`;
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

/** How many rows are added at once: they wait in memory. */
const stepRows = 1000;

async function addRows<Of>(sheet: Sheet, all: readonly Of[], toRow: (one: Of) => Cell[]): Promise<void> {
  for (const one of all) {
    if (sheet.rows() % stepRows === 0) await sheet.drained();
    sheet.add(toRow(one));
  }
}

/** Excel takes a formula of 255 parts and 8192 letters: one of more makes a file that it does not open. */
const maxRanges = 200;

/** The columns of the details that the summary's add up. */
const detailOf: Readonly<Record<string, string>> = { C: "F", D: "G", E: "H" };

/** Formulas, or just what they would give. */
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
