/**
 * Statistics and the report of a month of 2,000 users, and data of 256 MiB up and down. Run by hand: npm run
 * bench:history. The report is compared with a bare exceljs writer of the same rows, alternately, in one run.
 */
import { randomBytes, randomUUID } from "node:crypto";
import { PassThrough } from "node:stream";
import ExcelJs from "exceljs";
import { fillUsage, fillUsers, usagePeriod } from "./fill.ts";
import { median, seconds, startFixture, timed } from "./fixture.ts";

const users = 2000;
const days = 30;
const methods = 4;
const rows = users * days * methods;
const megabytes = 256;
const period = usagePeriod;

const { database, server, token, get, memory, forgetPeak, end } = await startFixture();
try {
  await fillUsers(database, users);
  await fillUsage(database, { users, days, methods });
  await statistics();
  await report();
  await upload();
} finally {
  await end();
}

async function statistics(): Promise<void> {
  const times: number[] = [];
  for (let round = 0; round < 5; round += 1) {
    times.push(await timed(async () => (await get(`/admin/statistics?${period}`)).text()));
  }
  console.log(`GET /admin/statistics, a month of ${users} users, ${rows} rows: median ${seconds(median(times))}`);
}

async function report(): Promise<void> {
  const serviceTimes: number[] = [];
  const bareTimes: number[] = [];
  const idle = memory("VmRSS");
  forgetPeak();
  let bytes = 0;
  for (let round = 0; round < 5; round += 1) {
    serviceTimes.push(
      await timed(async () => {
        bytes = (await (await get(`/admin/report?${period}`)).arrayBuffer()).byteLength;
      }),
    );
    bareTimes.push(await timed(bare));
  }
  const [serviceRate, bareRate] = [(rows * 1000) / median(serviceTimes), (rows * 1000) / median(bareTimes)];
  console.log(
    `GET /admin/report, ${(bytes / 1e6).toFixed(1)} MB: ${serviceRate.toFixed(0)} rows/s; bare exceljs ${bareRate.toFixed(0)} rows/s; ratio ${(serviceRate / bareRate).toFixed(2)}; RSS ${idle} MB idle, ${memory("VmHWM") - idle} MB more at its peak`,
  );
}

/** Writes the same rows with the same formats and compression, and nothing else. */
async function bare(): Promise<void> {
  const stream = new PassThrough();
  stream.resume();
  const writer = new ExcelJs.stream.xlsx.WorkbookWriter({
    stream,
    useStyles: true,
    zip: { zlib: { level: 1 } },
  });
  const sheet = writer.addWorksheet("Details");
  sheet.columns = ["@", "@", "yyyy-mm-dd", "@", "@", "#,##0", "#,##0", "#,##0"].map((numFmt) => ({
    width: 14,
    style: { numFmt },
  }));
  for (let index = 0; index < rows; index += 1) {
    const user = Math.floor(index / days / methods);
    const date = new Date(Date.UTC(2026, 9, 1 + (Math.floor(index / methods) % days)));
    sheet
      .addRow([`member_${user}`, `company_${user % 20}`, date, "UNIVERSAL", "PLAN", 7, user * 13, user * 11])
      .commit();
    if (index % 1000 === 999) await new Promise((resolve) => setImmediate(resolve));
  }
  await writer.commit();
}

async function upload(): Promise<void> {
  const path = `/admin/data/${randomUUID()}`;
  const piece = randomBytes(1_048_576);
  const idle = memory("VmRSS");
  forgetPeak();
  async function* body() {
    for (let sent = 0; sent < megabytes; sent += 1) yield piece;
  }
  const up = await timed(async () => {
    const init = { method: "PUT", headers: { authorization: `Bearer ${token}` }, body: body(), duplex: "half" };
    const response = await fetch(`${server.url}${path}?username=admin`, init as never);
    if (!response.ok) throw new Error(await response.text());
  });
  const upPeak = memory("VmHWM") - idle;
  forgetPeak();
  const down = await timed(async () => {
    for await (const _chunk of (await get(path)).body ?? []);
  });
  console.log(
    `${megabytes} MiB: up in ${seconds(up)}, ${upPeak} MB above ${idle} MB idle; down in ${seconds(down)}, ${memory("VmHWM") - idle} MB above idle`,
  );
}
