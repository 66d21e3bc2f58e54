import { type Cell, type Column, type Formula, numberFormat, type Sheet, textFormat } from "../xlsx/workbook.ts";
import type { ReportHead } from "./report.ts";
import type { Rows, Sums, Total } from "./sums.ts";

export const summaryColumns: readonly Column[] = [
  { header: "", width: 24, format: textFormat },
  { header: "", width: 28, format: textFormat },
  ...["", "", ""].map((header) => ({ header, width: 16, format: numberFormat })),
];

const numbers = ["Requests", "Points", "Unique points"];

/** Who asked for what, and the totals by company and by user: formulas, down to the details. */
export function writeSummary(sheet: Sheet, head: ReportHead, sums: Sums): void {
  const heading = (...cells: Cell[]) => sheet.add(cells, { bold: true });
  heading("Usage");
  sheet.add(["From", head.from ?? "the first day of each user's month"]);
  sheet.add(["To (excluded)", head.to ?? "each user's present day"]);
  sheet.add(["User", head.username === "" ? "everybody" : head.username]);
  sheet.add(["Asked by", head.askedBy]);
  sheet.add(["Made", head.made.toISOString().replace(/\.\d+Z$/, "Z")]);
  sheet.add([]);

  const [users, companies] = [sums.users(), sums.companies()];
  // The companies' table comes first and adds up the users', whose rows are known before they are written.
  const companiesFrom = sheet.rows() + 2;
  const usersFrom = companiesFrom + companies.length + 3;
  const usersTo = usersFrom + Math.max(users.length, 1) - 1;

  heading("Company", null, ...numbers);
  for (const { companyKey, total } of companies) {
    const row = sheet.rows() + 1;
    const ofUsers = (column: string) =>
      `SUMIFS(${column}$${usersFrom}:${column}$${usersTo},$B$${usersFrom}:$B$${usersTo},$A${row})`;
    sheet.add([companyKey, null, ...cells(total, ofUsers)]);
  }
  addTotal(sheet, companiesFrom, companies);
  sheet.add([]);

  heading("User", "Company", ...numbers);
  for (const { username, companyKey, total, rows } of users) {
    sheet.add([username, companyKey, ...cells(total, (column) => `SUM(${ranges(rows, detailOf[column] ?? "")})`)]);
  }
  if (users.length === 0) sheet.add([]);
  addTotal(sheet, usersFrom, users);
  sheet.end();
}

/** The columns of the details that the summary's add up. */
const detailOf: Readonly<Record<string, string>> = { C: "F", D: "G", E: "H" };

function cells({ requests, points, uniquePoints }: Total, formulaOf: (column: string) => string): Formula[] {
  return [
    { formula: formulaOf("C"), result: requests },
    { formula: formulaOf("D"), result: points },
    { formula: formulaOf("E"), result: uniquePoints },
  ];
}

function addTotal(sheet: Sheet, first: number, of: readonly { readonly total: Total }[]): void {
  const sum = (name: keyof Total) => of.reduce((all, { total }) => all + total[name], 0);
  const total = { requests: sum("requests"), points: sum("points"), uniquePoints: sum("uniquePoints") };
  const last = sheet.rows();
  const formulaOf = (column: string) => (last < first ? "0" : `SUM(${column}${first}:${column}${last})`);
  sheet.add(["Total", null, ...cells(total, formulaOf)], { bold: true });
}

function ranges(rows: readonly Rows[], column: string): string {
  return rows.map(({ sheet, first, last }) => `'${sheet}'!${column}${first}:${column}${last}`).join(",");
}
