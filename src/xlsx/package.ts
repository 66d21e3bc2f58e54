import { crc32 } from "node:zlib";
import yauzl, { type Entry, type ZipFile } from "yauzl";
import { limitOf, type ReadLimits, WorkbookError } from "./limits.ts";

/** The parts of an Office document (ECMA-376 part 2). Part names begin with `/` and are case-insensitive. */
export interface Package {
  has(part: string): boolean;
  /**
   * Streams the text of a part.
   * @throws WorkbookError when the part is missing, damaged, or neither UTF-8 nor UTF-16
   */
  read(part: string): AsyncGenerator<string>;
}

const oleSignature = Buffer.from("d0cf11e0a1b11ae1", "hex");

/**
 * Opens the ZIP archive of a document and reads its directory. Parts are unpacked when they are read.
 * @throws WorkbookError when the archive is not valid ZIP or exceeds the limits
 */
export async function openPackage(zip: Buffer, limits: ReadLimits): Promise<Package> {
  if (zip.subarray(0, oleSignature.length).equals(oleSignature)) {
    throw new WorkbookError("it is not a workbook: it is encrypted or in the format of Excel 97");
  }
  const entries = new Map<string, Entry>();
  const archive = await listEntries(zip, limits, entries);
  return {
    has: (part) => entries.has(part.toLowerCase()),
    async *read(part) {
      const entry = entries.get(part.toLowerCase());
      if (entry === undefined) throw new WorkbookError(`the part ${part} is missing`);
      if (entry.isEncrypted()) throw new WorkbookError("it is encrypted");
      yield* decode(unpack(archive, entry, part), part);
    },
  };
}

async function listEntries(zip: Buffer, limits: ReadLimits, entries: Map<string, Entry>): Promise<ZipFile> {
  const countFiles = limitOf(limits.files, "files");
  let bytes = 0;
  try {
    // This module decodes the names: yauzl refuses names that begin with a slash, which some programs write.
    const archive = await yauzl.fromBufferPromise(zip, { lazyEntries: true, decodeStrings: false });
    for await (const entry of archive.eachEntry()) {
      countFiles(1);
      // The declared size is a bound: yauzl stops reading a file that is larger.
      bytes += entry.uncompressedSize;
      if (bytes > limits.unpackedBytes) {
        throw new WorkbookError(`its unpacked size exceeds ${limits.unpackedBytes} bytes`);
      }
      const name = partNameOf(entry);
      if (name.endsWith("/")) continue;
      if (entries.has(name)) throw new WorkbookError(`it has two parts named ${name}`);
      entries.set(name, entry);
    }
    return archive;
  } catch (error) {
    throw error instanceof WorkbookError
      ? error
      : new WorkbookError("it is not a workbook: it is not a valid ZIP archive");
  }
}

function partNameOf({ generalPurposeBitFlag, fileNameRaw, extraFields }: Entry): string {
  // yauzl replaces backslashes by slashes.
  const name = yauzl.getFileNameLowLevel(generalPurposeBitFlag, fileNameRaw, extraFields, false);
  return decodePart(`/${name.replace(/^\/+/, "")}`).toLowerCase();
}

/** Removes percent-encoding, so that names can be compared: programs differ in what they encode. */
export function decodePart(name: string): string {
  try {
    return decodeURIComponent(name);
  } catch {
    return name;
  }
}

async function* unpack(archive: ZipFile, entry: Entry, part: string): AsyncGenerator<Buffer> {
  let checksum = 0;
  try {
    const stream = await archive.openReadStreamPromise(entry);
    for await (const chunk of stream as AsyncIterable<Buffer>) {
      checksum = crc32(chunk, checksum);
      yield chunk;
    }
  } catch (error) {
    if (error instanceof WorkbookError) throw error;
    throw new WorkbookError(`the part ${part} cannot be unpacked`);
  }
  // Programs that do not compute the checksum write 0.
  if (entry.crc32 !== 0 && entry.crc32 !== checksum) {
    throw new WorkbookError(`the part ${part} is damaged: its checksum does not match`);
  }
}

async function* decode(chunks: AsyncIterable<Buffer>, part: string): AsyncGenerator<string> {
  let decoder: InstanceType<typeof TextDecoder> | undefined;
  const decodeChunk = (chunk?: Buffer) => {
    try {
      decoder ??= new TextDecoder(encodingOf(chunk ?? Buffer.of()), { fatal: true });
      return chunk === undefined ? decoder.decode() : decoder.decode(chunk, { stream: true });
    } catch {
      throw new WorkbookError(`the part ${part} is neither in UTF-8 nor in UTF-16`);
    }
  };
  for await (const chunk of chunks) yield decodeChunk(chunk);
  yield decodeChunk();
}

/** Detects the encoding from the byte order mark, or from the `<` that XML without one begins with. */
function encodingOf(start: Buffer): string {
  const [first, second] = start;
  if ((first === 0xff && second === 0xfe) || (first === 0x3c && second === 0)) return "utf-16le";
  if ((first === 0xfe && second === 0xff) || (first === 0 && second === 0x3c)) return "utf-16be";
  return "utf-8";
}
