import { expect, test } from "vitest";
import { make } from "../../src/data/convert/make.ts";
import { archiveOf, rawWorkbook } from "../support/archive.ts";
import { noLibreOffice, sheetsOf } from "../support/libreoffice.ts";

async function run(bytes: Buffer, from: "json" | "xlsx"): Promise<Buffer> {
  const all: Buffer[] = [];
  for await (const chunk of make(bytes, from)) all.push(chunk);
  return Buffer.concat(all);
}

test.each<[string, () => Buffer, string]>([
  [
    "what fills the memory",
    () => rawWorkbook({ strings: `<si><t>${"x".repeat(70_000_000)}</t></si>` }),
    "unpacked it is larger than 67108864 bytes",
  ],
  [
    "what fills the memory, and says that it does not",
    () => lie(rawWorkbook({ strings: `<si><t>${"x".repeat(70_000_000)}</t></si>` })),
    "the part /xl/workbook.xml cannot be unpacked",
  ],
  [
    "cells without end",
    () => rawWorkbook({ rows: `<row>${"<c/>".repeat(16_000)}</row>`.repeat(63) }),
    "it has more than 1000000 cells",
  ],
  ["rows without end", () => rawWorkbook({ rows: "<row/>".repeat(1_000_001) }), "it has more than 1000000 rows"],
  [
    "formats without end",
    () => rawWorkbook({ styles: "<xf/>".repeat(6_000_001) }),
    "it has more than 6000000 elements",
  ],
  [
    "parts of a text without end",
    () => rawWorkbook({ strings: `<si>${"<r><t>a</t></r>".repeat(3_000_000)}</si>` }),
    "it has more than 6000000 elements",
  ],
  [
    "files without end",
    () => archiveOf(Object.fromEntries(Array.from({ length: 10_001 }, (_none, index) => [`f${index}`, ""]))),
    "it has more than 10000 files",
  ],
])("a workbook with %s is refused with the reason", async (_what, makeWorkbook, reason) => {
  await expect(run(makeWorkbook(), "xlsx")).rejects.toThrow(reason);
});

/** The archive says of each of its files that it has 9 bytes. */
function lie(xlsx: Buffer): Buffer {
  for (let at = xlsx.indexOf("PK\u0001\u0002"); at !== -1; at = xlsx.indexOf("PK\u0001\u0002", at + 4)) {
    xlsx.writeUInt32LE(9, at + 24);
  }
  return xlsx;
}

test.skipIf(noLibreOffice !== "")(`no text is run as a formula ${noLibreOffice}`, { timeout: 60_000 }, async () => {
  const texts = ["=1+1", "+1+1", "-1+1", "@SUM(1)", '=HYPERLINK("http://example.com")'];
  const sheets = await sheetsOf(await run(Buffer.from(JSON.stringify(texts.map((text) => ({ text })))), "json"));
  expect(sheets["data"]?.slice(1).map(([, text]) => text?.replaceAll(/^"|"$/g, "").replaceAll('""', '"'))).toEqual(
    texts,
  );
});
