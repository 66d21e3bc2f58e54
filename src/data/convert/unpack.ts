import { promisify } from "node:util";
import { inflateRaw } from "node:zlib";
import { Impossible, limitOf, maxCells } from "./table.ts";

/** What the files of a workbook come to at the most: its reader has them all in memory, and more beside them. */
const maxUnpacked = 67_108_864;

/** Each of them is an object to the reader, however few bytes it has. */
const elements = [
  { what: "cells", pattern: /<c[\s/>]/g, limit: maxCells },
  { what: "rows", pattern: /<row[\s/>]/g, limit: maxCells },
  { what: "texts", pattern: /<si[\s/>]/g, limit: maxCells },
  // A cell has two, and two more for its text.
  { what: "elements", pattern: /<[a-z]/gi, limit: 6 * maxCells },
];

const endSignature = Buffer.from("PK\u0005\u0006");
const locatorSignature = 0x07064b50;
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
  if (isZip64(zip, end)) throw new Impossible("it is a ZIP64 archive, which no small file need be");
  const counters = elements.map(({ what, pattern, limit }) => ({ pattern, count: limitOf(limit, what) }));
  // Where the directory is not where it should be, its reader may look for it elsewhere.
  if (at + zip.readUInt32LE(end + 12) !== end) throw new Error("the archive's directory is not at its end");
  while (zip.readUInt32LE(at) === fileSignature) {
    const content = await unpackFile(zip, at, left);
    left -= content.length;
    const text = content.toString("latin1");
    for (const { pattern, count } of counters) for (const _one of text.matchAll(pattern)) count(1);
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

/** Whether its directory may be another one than its end says. */
function isZip64(zip: Buffer, end: number): boolean {
  if (end >= 20 && zip.readUInt32LE(end - 20) === locatorSignature) return true;
  const isFull16 = [4, 6, 8, 10].some((at) => zip.readUInt16LE(end + at) === 0xffff);
  return isFull16 || [12, 16].some((at) => zip.readUInt32LE(end + at) === 0xffffffff);
}
