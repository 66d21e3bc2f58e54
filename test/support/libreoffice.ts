import { execFile, spawnSync } from "node:child_process";
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";

/** The reason to skip tests that need LibreOffice; empty where it is installed. `.ci/run` counts a skip as a failure. */
export const noLibreOffice =
  spawnSync("soffice", ["--version"]).status === 0 ? "" : "skipped: install libreoffice-calc";

/** Recalculates every formula instead of using the results stored in the file. */
const settings = `<?xml version="1.0" encoding="UTF-8"?>
<oor:items xmlns:oor="http://openoffice.org/2001/registry" xmlns:xs="http://www.w3.org/2001/XMLSchema">
<item oor:path="/org.openoffice.Office.Calc/Formula/Load"><prop oor:name="OOXMLRecalcMode" oor:op="fuse"><value>0</value></prop></item>
</oor:items>`;

/** The sheets of a workbook as LibreOffice shows them: lines of cells by the sheet's name. */
export async function sheetsOf(xlsx: Uint8Array): Promise<Record<string, string[][]>> {
  const folder = await mkdtemp(join(tmpdir(), "tollgate-office-"));
  try {
    await mkdir(join(folder, "profile", "user"), { recursive: true });
    await writeFile(join(folder, "profile", "user", "registrymodifications.xcu"), settings);
    await writeFile(join(folder, "book.xlsx"), xlsx);
    await promisify(execFile)("soffice", [
      `-env:UserInstallation=file://${folder}/profile`,
      "--headless",
      "--convert-to",
      // Tabs, quotes only where they are needed, UTF-8, formatted as shown, every sheet.
      "csv:Text - txt - csv (StarCalc):9,34,76,1,,0,false,true,false,false,false,-1",
      "--outdir",
      folder,
      join(folder, "book.xlsx"),
    ]);
    const names = (await readdir(folder)).filter((name) => name.endsWith(".csv"));
    const sheets = names.map(async (name) => {
      const text = await readFile(join(folder, name), "utf8");
      const lines = text.split("\n").filter((line) => line !== "");
      return [name.slice("book-".length, -".csv".length), lines.map((line) => line.split("\t"))] as const;
    });
    return Object.fromEntries(await Promise.all(sheets));
  } finally {
    await rm(folder, { recursive: true });
  }
}
