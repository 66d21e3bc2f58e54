import { expect, test } from "vitest";
import { convertBytes } from "../../src/data/convert/convert-bytes.ts";
import { archiveOf, rawWorkbook } from "../support/archive.ts";

async function run(bytes: Buffer, from: "json" | "xlsx"): Promise<Buffer> {
  const all: Buffer[] = [];
  for await (const chunk of convertBytes(bytes, from)) all.push(chunk);
  return Buffer.concat(all);
}

test.each<[string, () => Buffer, string]>([
  [
    "a large unpacked size",
    () => rawWorkbook({ strings: `<si><t>${"x".repeat(70_000_000)}</t></si>` }),
    "its unpacked size exceeds 67108864 bytes",
  ],
  [
    "a large unpacked size and a small declared size",
    () => declareSmallSizes(rawWorkbook({ strings: `<si><t>${"x".repeat(70_000_000)}</t></si>` })),
    "the part /xl/workbook.xml cannot be unpacked",
  ],
  [
    "too many cells",
    () => rawWorkbook({ rows: `<row>${"<c/>".repeat(16_000)}</row>`.repeat(63) }),
    "it has more than 1000000 cells",
  ],
  ["too many rows", () => rawWorkbook({ rows: "<row/>".repeat(1_000_001) }), "it has more than 1000000 rows"],
  ["too many formats", () => rawWorkbook({ styles: "<xf/>".repeat(6_000_001) }), "it has more than 6000000 elements"],
  [
    "a text of too many runs",
    () => rawWorkbook({ strings: `<si>${"<r><t>a</t></r>".repeat(3_000_000)}</si>` }),
    "it has more than 6000000 elements",
  ],
  [
    "too many files",
    () => archiveOf(Object.fromEntries(Array.from({ length: 10_001 }, (_none, index) => [`f${index}`, ""]))),
    "it has more than 10000 files",
  ],
])("a workbook with %s is refused with the reason", async (_name, makeWorkbook, reason) => {
  await expect(run(makeWorkbook(), "xlsx")).rejects.toThrow(reason);
});

/** Sets the declared size of every file in the archive to 9 bytes. */
function declareSmallSizes(xlsx: Buffer): Buffer {
  for (let at = xlsx.indexOf("PK\u0001\u0002"); at !== -1; at = xlsx.indexOf("PK\u0001\u0002", at + 4)) {
    xlsx.writeUInt32LE(9, at + 24);
  }
  return xlsx;
}
