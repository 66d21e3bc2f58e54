import { promisify } from "node:util";
import { inflateRaw } from "node:zlib";
import { Impossible, maxCells } from "./table.ts";

/** What the files of a workbook come to at the most: its reader has them all in memory, and more beside them. */
const maxUnpacked = 67_108_864;

/** Each of them is an object to the reader, however few bytes it has. */
const elements = { cells: /<c[\s/>]/g, rows: /<row[\s/>]/g, texts: /<si[\s/>]/g };

const endSignature = Buffer.from("PK\u0005\u0006");
const fileSignature = 0x02014b50;
const unpack = promisify(inflateRaw);

/**
 * Makes sure that an archive is not larger than it seems. Its files are unpacked for that: what it says of their sizes
 * may be a lie.
 * @throws Impossible for one that is; any other error for what is no archive
 */
export async function checkUnpacked(zip: Buffer): Promise<void> {
  const end = zip.lastIndexOf(endSignature);
  let at = zip.readUInt32LE(end + 16);
  let left = maxUnpacked;
  const counts = { cells: 0, rows: 0, texts: 0 };
  // Where the directory is not where it should be, its reader may look for it elsewhere.
  if (at + zip.readUInt32LE(end + 12) !== end) throw new Error("the archive's directory is not at its end");
  while (zip.readUInt32LE(at) === fileSignature) {
    const content = await unpackFile(zip, at, left);
    left -= content.length;
    count(content, counts);
    at += 46 + zip.readUInt16LE(at + 28) + zip.readUInt16LE(at + 30) + zip.readUInt16LE(at + 32);
  }
}

/** @param entry where the directory speaks of the file */
async function unpackFile(zip: Buffer, entry: number, limit: number): Promise<Buffer> {
  const header = zip.readUInt32LE(entry + 42);
  const start = header + 30 + zip.readUInt16LE(header + 26) + zip.readUInt16LE(header + 28);
  const content = zip.subarray(start, start + zip.readUInt32LE(entry + 20));
  const isStored = zip.readUInt16LE(entry + 10) === 0;
  try {
    const unpacked = isStored ? content : await unpack(content, { maxOutputLength: Math.max(1, limit) });
    if (unpacked.length <= limit) return unpacked;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ERR_BUFFER_TOO_LARGE") throw error;
  }
  throw new Impossible(`unpacked it is larger than ${maxUnpacked} bytes`);
}

function count(content: Buffer, counts: Record<keyof typeof elements, number>): void {
  const text = content.toString("latin1");
  for (const kind of ["cells", "rows", "texts"] as const) {
    for (const _one of text.matchAll(elements[kind])) {
      counts[kind] += 1;
      if (counts[kind] > maxCells) throw new Impossible(`it has more than ${maxCells} ${kind}`);
    }
  }
}
