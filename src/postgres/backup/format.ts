import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";

/**
 * A backup is a first line and frames. A frame is a letter, the length of its payload in 4 bytes (big-endian), and the
 * payload:
 *
 *     H  header, JSON: versions, tables, sequences
 *     T  name of a table, before its rows
 *     D  rows in the text format of COPY; a row may span frames
 *     Z  trailer, JSON: rows of each table, SHA-256 of all bytes before the trailer
 */
export type FrameKind = "H" | "T" | "D" | "Z";

export interface Frame {
  readonly kind: FrameKind;
  readonly payload: Buffer;
}

export interface BackupHeader {
  /** Migrations of the database, by number. */
  readonly migrations: readonly { readonly number: number; readonly checksum: string }[];
  /** In the order in which they are restored: a foreign key refers to an earlier table. */
  readonly tables: readonly BackupTable[];
  readonly sequences: readonly BackupSequence[];
}

export interface BackupTable {
  readonly name: string;
  readonly columns: readonly string[];
  /** Days of the partitions, YYYYMMDD. */
  readonly days: readonly string[];
}

export interface BackupSequence {
  readonly table: string;
  readonly column: string;
  /** Decimal: a sequence goes beyond 2^53. */
  readonly value: string;
  readonly isCalled: boolean;
}

export interface BackupTrailer {
  readonly rows: Readonly<Record<string, number>>;
  readonly sha256: string;
}

/** A file that is not a whole backup. */
export class DamagedBackupError extends Error {}

const firstLine = Buffer.from("tollgate backup 1\n");
const frameHeadBytes = 5;
export const maxFrameBytes = 1024 * 1024;

/** Encodes a backup. The trailer is made from what was encoded before. */
export function createBackupEncoder() {
  const hash = createHash("sha256");
  const encode = (kind: FrameKind, payload: Buffer) => {
    if (payload.length > maxFrameBytes) throw new Error("a frame of a backup is too long");
    const head = Buffer.alloc(frameHeadBytes);
    head.write(kind, "latin1");
    head.writeUInt32BE(payload.length, 1);
    return Buffer.concat([head, payload]);
  };
  const add = (bytes: Buffer) => {
    hash.update(bytes);
    return bytes;
  };
  return {
    begin: (header: BackupHeader) => add(Buffer.concat([firstLine, encode("H", Buffer.from(JSON.stringify(header)))])),
    table: (name: string) => add(encode("T", Buffer.from(name))),
    rows: (piece: Buffer) => add(encode("D", piece)),
    end: (rows: BackupTrailer["rows"]) =>
      encode("Z", Buffer.from(JSON.stringify({ rows, sha256: hash.digest("hex") } satisfies BackupTrailer))),
  };
}

/**
 * Reads the frames of a backup in bounded memory. The last one, the trailer, is returned only if the checksum is right.
 * @throws DamagedBackupError when the file is no backup, is cut, was changed, or goes on after the trailer
 */
export async function* readFrames(path: string): AsyncGenerator<Frame> {
  const hash = createHash("sha256");
  let buffer: Buffer = Buffer.alloc(0);
  let hasFirstLine = false;
  let hasEnded = false;
  for await (const piece of createReadStream(path, { highWaterMark: maxFrameBytes }) as AsyncIterable<Buffer>) {
    buffer = buffer.length === 0 ? piece : Buffer.concat([buffer, piece]);
    if (!hasFirstLine) {
      if (buffer.length < firstLine.length) continue;
      if (!buffer.subarray(0, firstLine.length).equals(firstLine)) break;
      hash.update(firstLine);
      buffer = buffer.subarray(firstLine.length);
      hasFirstLine = true;
    }
    while (buffer.length >= frameHeadBytes) {
      const length = buffer.readUInt32BE(1);
      const kind = toKind(buffer.toString("latin1", 0, 1));
      if (kind === undefined || length > maxFrameBytes || hasEnded) throw damaged();
      const end = frameHeadBytes + length;
      if (buffer.length < end) break;
      const payload = buffer.subarray(frameHeadBytes, end);
      if (kind === "Z") {
        if ((parseJson(payload) as BackupTrailer).sha256 !== hash.digest("hex")) throw damaged();
        hasEnded = true;
      } else hash.update(buffer.subarray(0, end));
      yield { kind, payload };
      buffer = buffer.subarray(end);
    }
    if (hasEnded && buffer.length > 0) throw damaged();
  }
  if (!hasFirstLine) throw new DamagedBackupError("the file is not a backup of Tollgate, or of another format");
  if (!hasEnded) throw new DamagedBackupError("the backup is cut: it has no end");
}

/** @throws DamagedBackupError when the payload is not JSON */
export function parseJson(payload: Buffer): unknown {
  try {
    return JSON.parse(payload.toString());
  } catch {
    throw damaged();
  }
}

function damaged(): DamagedBackupError {
  return new DamagedBackupError("the backup is damaged: its checksum does not match");
}

function toKind(letter: string): FrameKind | undefined {
  return letter === "H" || letter === "T" || letter === "D" || letter === "Z" ? letter : undefined;
}
