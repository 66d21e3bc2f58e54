import { randomBytes } from "node:crypto";
import ExcelJs from "exceljs";
import { afterAll, beforeAll, expect, test } from "vitest";
import { streamReport } from "../../src/usage/report.ts";
import type { UsageRow } from "../../src/usage/store.ts";
import { writeSummary } from "../../src/usage/summary.ts";
import { createSums } from "../../src/usage/sums.ts";
import { type Cell, maxRows, type Sheet } from "../../src/xlsx/workbook.ts";
import { startTestApp, type TestApp } from "../support/app.ts";
import { makeUsage } from "../support/usage.ts";

let app: TestApp;
let company: string;
let people: Readonly<Record<string, string>>;
beforeAll(async () => {
  app = await startTestApp();
  ({ company, people } = await makeUsage(app));
});
afterAll(() => app.stop());

async function report(query: string, token = app.admin) {
  const response = await fetch(`${app.url}/admin/report?${query}`, { headers: { authorization: `Bearer ${token}` } });
  return { response, file: new Uint8Array(await response.arrayBuffer()) };
}

async function open(file: Uint8Array): Promise<ExcelJs.Workbook> {
  const workbook = new ExcelJs.Workbook();
  await workbook.xlsx.load(file.buffer as ArrayBuffer);
  return workbook;
}

test("states its requester and period, and has a filename", async () => {
  const { response, file } = await report("from=2026-10-01&to=2026-11-01");
  expect(response.status).toBe(200);
  expect(response.headers.get("content-type")).toBe(
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
  );
  expect(response.headers.get("content-disposition")).toBe('attachment; filename="usage_2026-10-01_2026-11-01.xlsx"');
  const workbook = await open(file);
  expect(workbook.worksheets.map(({ name }) => name)).toEqual(["Summary", "Details", "By day"]);
  const summary = workbook.getWorksheet("Summary");
  expect([2, 3, 4, 5].map((row) => summary?.getCell(row, 2).value)).toEqual([
    "2026-10-01",
    "2026-11-01",
    "all users",
    "administration / admin",
  ]);
});

test("a report of an empty period has headings only", async () => {
  const { response, file } = await report("from=2026-10-05&to=2026-10-05");
  expect(response.status).toBe(200);
  const details = (await open(file)).getWorksheet("Details");
  expect(details?.rowCount).toBe(1);
  expect(details?.getCell("A1").value).toBe("User");
});

test("the details are typed dates and numbers with a filter", async () => {
  const { file } = await report("from=2026-10-01&to=2026-11-01");
  const details = (await open(file)).getWorksheet("Details");
  expect(details?.autoFilter).toBe("A1:H6");
  expect(details?.views).toMatchObject([{ state: "frozen", ySplit: 1 }]);
  expect(details?.getRow(2).values).toEqual([
    undefined,
    people["anna"],
    company,
    new Date("2026-10-01"),
    "UNIVERSAL",
    "PLAN",
    2,
    1000,
    900,
  ]);
  expect(details?.getCell("C2").numFmt).toBe("yyyy-mm-dd");
  expect(details?.getCell("A2").numFmt).toBe("@");
  expect(details?.getColumn(1).width).toBe(24);
});

test("a report without usage has a total of 0", async () => {
  const { file } = await report("from=2020-01-01&to=2020-02-01");
  const workbook = await open(file);
  expect(workbook.getWorksheet("Details")?.rowCount).toBe(1);
  expect(workbook.getWorksheet("Summary")?.getCell("C9").value).toEqual({ formula: "0" });
});

test("callers get a report of their own tenant only", async () => {
  const partner = await app.token(await app.user({ company_key: company, roles: ["PARTNER"] }));
  const names = async (token: string, query = "") => {
    const { file } = await report(`from=2026-10-01&to=2026-11-02${query}`, token);
    const details = (await open(file)).getWorksheet("Details");
    return new Set(details?.getColumn(1).values.slice(2));
  };
  expect(await names(partner)).toEqual(new Set([people["anna"], people["bert"]]));
  expect(await names(partner, `&username=${people["carl"]}`)).toEqual(new Set());
  expect(await names(await app.token(people["anna"] ?? ""))).toEqual(new Set([people["anna"]]));
  expect(await names(app.admin, `&username=${people["carl"]}`)).toEqual(new Set([people["carl"]]));
});

test("refuses a period that ends before it begins", async () => {
  const { status, body } = await app.http("GET", "/admin/report?from=2026-10-02&to=2026-10-01", { token: app.admin });
  expect([status, body.message]).toEqual([400, "to: must not be before from"]);
});

const head = { from: undefined, to: undefined, username: "", requestedBy: "anna", made: new Date() };
const row = (index: number): UsageRow => ({
  user_id: Math.floor(index / 100),
  username: `user_${Math.floor(index / 100)}`,
  company_key: "company",
  date: new Date(index * 86_400_000).toISOString().slice(0, 10),
  service: 1,
  method_group: 3,
  requests: 1,
  points: 1,
  unique_points: 1,
});

test("stops producing rows without a reader, and ends the source when the reader leaves", {
  timeout: 90_000,
}, async () => {
  let made = 0;
  async function* endless() {
    // Random names: rows that are alike compress so well that it takes 200,000 of them to fill the buffers.
    for (;;)
      yield Array.from({ length: 1000 }, () => ({ ...row((made += 1)), username: randomBytes(60).toString("hex") }));
  }
  let ended = false;
  async function* watched() {
    try {
      yield* endless();
    } finally {
      ended = true;
    }
  }
  const file = streamReport(head, watched());
  await file.next();
  const standsStill = async () => {
    const before = made;
    await new Promise((resolve) => setTimeout(resolve, 300));
    return made === before;
  };
  await expect.poll(standsStill, { timeout: 60_000 }).toBe(true);
  expect(made).toBeLessThan(200_000);
  await file.return(undefined);
  await expect.poll(() => ended).toBe(true);
});

test("passes an error of the source to the reader", async () => {
  async function* pages() {
    yield [row(1)];
    throw new Error("the database is gone");
  }
  const read = async () => {
    for await (const _chunk of streamReport(head, pages()));
  };
  await expect(read()).rejects.toThrow("the database is gone");
});

test("continues details in a second sheet, and the formulas cover both", async () => {
  const rows = Array.from({ length: 1050 }, (_none, index) => row(index));
  const workbook = await open(await read(rows, 1000));
  expect(workbook.worksheets.map(({ name, rowCount }) => [name, rowCount]).slice(1, 3)).toEqual([
    ["Details", 1000],
    ["Details 2", 52],
  ]);
  const formulas: string[] = [];
  workbook.getWorksheet("Summary")?.eachRow((line) => formulas.push(line.getCell(3).formula));
  expect(formulas).toContain("SUM('Details'!F902:F1000,'Details 2'!F2:F2)");
});

async function read(rows: readonly UsageRow[], rowsPerSheet?: number): Promise<Uint8Array> {
  async function* pages() {
    yield rows;
  }
  const chunks: Buffer[] = [];
  for await (const chunk of streamReport(head, pages(), rowsPerSheet)) chunks.push(chunk);
  return new Uint8Array(Buffer.concat(chunks));
}

/** A row of a separate user in the company. */
const rowOf = (user_id: number, company_key: string): UsageRow => ({
  ...row(0),
  user_id,
  username: `user_${user_id}`,
  company_key,
  points: 10 ** user_id,
});

test("shows only company totals in the summary when the users exceed a sheet", async () => {
  const rows = Array.from({ length: 30 }, (_none, index) => ({ ...rowOf(index, `company_${index % 2}`), points: 2 }));
  const summaryOf = async (rowsPerSheet: number) => {
    const summary = (await open(await read(rows, rowsPerSheet))).getWorksheet("Summary");
    return {
      rows: summary?.rowCount,
      cells: (row: number) => [1, 3, 4].map((cell) => summary?.getCell(row, cell).value),
    };
  };
  const fitting = await summaryOf(44);
  expect(fitting.rows).toBe(44);
  const { rows: count, cells } = await summaryOf(43);
  expect(count).toBe(13);
  expect([9, 10, 11].map(cells)).toEqual([
    ["company_0", 15, 30],
    ["company_1", 15, 30],
    ["Total", 30, 60],
  ]);
  expect(cells(13)[0]).toMatch(/30 users are too many for a sheet/);
});

test("continues days in a second sheet", async () => {
  const workbook = await open(
    await read(
      Array.from({ length: 25 }, (_none, index) => row(index)),
      20,
    ),
  );
  expect(workbook.worksheets.map(({ name, rowCount }) => [name, rowCount]).slice(1)).toEqual([
    ["Details", 20],
    ["Details 2", 7],
    ["By day", 20],
    ["By day 2", 7],
  ]);
  const next = workbook.getWorksheet("By day 2");
  expect([next?.getCell("A1").value, next?.getCell("A2").value]).toEqual(["Date", new Date("1970-01-20")]);
  expect(next?.autoFilter).toBe("A1:E7");
});

test("shows only the total in the summary when the companies exceed a sheet", async () => {
  const rows = Array.from({ length: 30 }, (_none, index) => ({ ...rowOf(index, `company_${index}`), points: 2 }));
  const summaryOf = async (rowsPerSheet: number) => {
    const summary = (await open(await read(rows, rowsPerSheet))).getWorksheet("Summary");
    const lines: unknown[][] = [];
    summary?.eachRow((line) => void (line.number > 8 && lines.push([1, 3, 4].map((cell) => line.getCell(cell).value))));
    return lines;
  };
  const fitting = await summaryOf(41);
  expect(fitting.slice(29)).toEqual([
    ["company_9", 1, 2],
    ["Total", 30, 60],
    ["30 users are too many for a sheet: see the details", null, null],
  ]);
  expect(await summaryOf(40)).toEqual([
    ["Total", 30, 60],
    ["30 companies are too many for a sheet: see the details", null, null],
    ["30 users are too many for a sheet: see the details", null, null],
  ]);
});

test("writes a number instead of a formula that would have too many arguments", async () => {
  const summaryOf = async (moves: number) => {
    const rows = Array.from({ length: moves * 2 }, (_none, index) => ({
      ...row(index),
      user_id: 1,
      username: "user_1",
    }));
    const moving = rows.map((row, index) => ({ ...row, company_key: index % 2 === 0 ? "one" : "other" }));
    const summary = (await open(await read(moving))).getWorksheet("Summary");
    return summary?.getCell("C14");
  };
  const [fitting, apart] = [await summaryOf(200), await summaryOf(201)];
  expect(fitting?.formula.split(",")).toHaveLength(200);
  expect([apart?.formula, apart?.value]).toEqual([undefined, 201]);
});

test("the summary waits for its reader after every hundred rows", async () => {
  const sums = createSums();
  for (let user = 0; user < 3500; user += 1)
    sums.add({ ...rowOf(user, `company_${user}`), points: 1 }, { sheet: "Details", row: user + 2 });
  const written: Cell[][] = [];
  const drained: number[] = [];
  const sheet: Sheet = {
    name: "Summary",
    rows: () => written.length,
    add: (cells) => void written.push([...cells]),
    drained: async () => void drained.push(written.length),
    end: () => undefined,
  };
  await writeSummary(sheet, { head, sums, rowsPerSheet: maxRows });
  expect(written.length).toBeGreaterThan(7000);
  const steps = [...drained, written.length].map((count, index) => count - (drained[index - 1] ?? 0));
  // A heading may take the place of a row that would have waited.
  expect(Math.max(...steps)).toBeLessThanOrEqual(200);
});
