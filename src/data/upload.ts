import { createHash } from "node:crypto";
import type { PutDataRequest } from "#gen/tollgate/v1/data_pb.js";
import { acquireBulkSlot } from "../postgres/bulk-slots.ts";
import type { Database, Transaction } from "../postgres/database.ts";
import { isUniqueViolation } from "../postgres/errors.ts";
import { ensurePartitions, withPartitions } from "../postgres/partitions.ts";
import { dayAt, toIsoDay } from "../shared/calendar.ts";
import { alreadyExists, invalid, tooLarge, unavailable } from "../shared/errors.ts";
import { type Call, requirePresent } from "../shared/handler.ts";
import { inPace, inTime } from "./in-time.ts";
import {
  type DataFile,
  type DataKey,
  type DataOwner,
  findDataFile,
  findDataOwner,
  insertChunk,
  insertFile,
  nextFileId,
} from "./store.ts";

export interface UploadOptions {
  readonly database: Database;
  /** A user as of now; undefined when there is none. */
  readonly findUser: (username: string) => Promise<KnownUser | undefined>;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
  readonly maxBytes: number;
  /** How long a sender may let a piece wait, and how far it may fall behind the least pace. */
  readonly pieceTimeoutMs: number;
}

export interface KnownUser {
  readonly userId: number;
  readonly username: string;
  readonly companyKey: string;
}

export interface StoredUpload {
  readonly bytes: number;
  readonly sha256: Buffer;
  readonly repeated: boolean;
}

const everything = { kind: "everything" as const };
/** What is written at once, and so what is read at least. */
const chunkBytes = 262_144;

/**
 * Keeps what a stream brings, in one transaction: a broken upload leaves nothing.
 * @throws ALREADY_EXISTS where there are other bytes
 */
export async function storeUpload(
  options: UploadOptions,
  requests: AsyncIterable<PutDataRequest>,
  { isHttp, signal }: Pick<Call, "isHttp" | "signal">,
): Promise<StoredUpload> {
  // The gateway has this limit itself, as 408.
  const timed = isHttp ? requests : inTime(requests, options.pieceTimeoutMs);
  const iterator = inPace(timed, options.pieceTimeoutMs);
  try {
    const first = await iterator.next();
    if (first.done === true) throw invalid({ field: "tracecode", message: "is needed: there was no message" });
    const described = await describe(options, first.value);
    const received = receive(options, first.value, { [Symbol.asyncIterator]: () => iterator }, signal);
    return await keep(options, described, received, signal);
  } finally {
    // Who is refused is not read to the end.
    await iterator.return(undefined);
  }
}

type Described = Omit<DataFile, "id" | "day" | "bytes" | "sha256"> & { readonly expected: string | undefined };

async function describe({ database, findUser }: UploadOptions, request: PutDataRequest): Promise<Described> {
  const { username, dataFlowType, dataFlowStage: stage, file } = request;
  const tracecode = request.tracecode?.toLowerCase();
  if (tracecode === undefined) throw invalid({ field: "tracecode", message: "is needed in the first message" });
  if (username === undefined) throw invalid({ field: "username", message: "is needed: whose data it is" });
  // What comes late is not a namesake's: all of a tracecode is one user's.
  const owner = (await findDataOwner(database, { tracecode, username })) ?? toOwner(await findUser(username));
  if (owner === undefined) throw invalid({ field: "username", message: `no such user: ${username}` });
  return {
    ...owner,
    tracecode,
    flow: requirePresent(dataFlowType),
    stage,
    content_type: mediaType(file?.contentType ?? ""),
    filename: request.filename ?? tracecode,
    expected: request.sha256?.toLowerCase(),
  };
}

function toOwner(user: KnownUser | undefined): DataOwner | undefined {
  return user && { user_id: user.userId, username: user.username, company_key: user.companyKey };
}

/** A type that a header can carry; what is none is bytes. */
function mediaType(text: string): string {
  return /^[\w!#$&^.+-]+\/[\w!#$&^.+-]+( *; *[\w!#$&^.+-]+=("[^"\\\r\n]*"|[\w!#$&^.+-]+))*$/.test(text) &&
    text.length < 256
    ? text
    : "application/octet-stream";
}

/** The bytes of a stream as chunks of one size, the last one shorter, and at their end what they come to. */
function receive(
  options: UploadOptions,
  first: PutDataRequest,
  others: AsyncIterable<PutDataRequest>,
  signal: AbortSignal,
) {
  const hash = createHash("sha256");
  let bytes = 0;
  let sha256: Buffer | undefined;
  let whole = false;

  async function* pieces(): AsyncGenerator<Uint8Array> {
    yield first.file?.data ?? new Uint8Array();
    for await (const request of others) {
      if (request.tracecode !== undefined || request.username !== undefined) {
        throw invalid({ field: "tracecode", message: "belongs into the first message alone" });
      }
      yield request.file?.data ?? new Uint8Array();
    }
  }

  async function* chunks(): AsyncGenerator<Buffer> {
    let waiting: Uint8Array[] = [];
    let length = 0;
    for await (const piece of pieces()) {
      signal.throwIfAborted();
      bytes += piece.length;
      if (bytes > options.maxBytes) throw tooLarge(`the data is larger than ${options.maxBytes} bytes`);
      hash.update(piece);
      waiting.push(piece);
      length += piece.length;
      if (length < chunkBytes) continue;
      const all = Buffer.concat(waiting);
      let at = 0;
      for (; at + chunkBytes <= all.length; at += chunkBytes) yield all.subarray(at, at + chunkBytes);
      // Copied: the rest must not keep the whole.
      waiting = [Buffer.from(all.subarray(at))];
      length = all.length - at;
    }
    whole = true;
    if (length > 0) yield Buffer.concat(waiting);
  }

  return {
    chunks: chunks(),
    /** Whether no chunk is waited for any more. */
    isWhole: () => whole,
    result: () => ({ bytes, sha256: (sha256 ??= hash.digest()) }),
  };
}

type Received = ReturnType<typeof receive>;

async function keep(
  options: UploadOptions,
  described: Described,
  received: Received,
  signal: AbortSignal,
): Promise<StoredUpload> {
  const { expected, ...file } = described;
  const known = await findDataFile(options.database, described, everything);
  if (known !== undefined) {
    for await (const _chunk of received.chunks);
    return repeated(known, described, checked(received, expected));
  }
  try {
    // Most data is one chunk: it is all there before a connection is taken, and needs no turn to hold it for long.
    const head = await received.chunks.next();
    const free = received.isWhole() ? undefined : await acquireBulkSlot(options.database, { kind: "uploads", signal });
    try {
      return await write(options, { file, expected, head, received });
    } finally {
      free?.();
    }
  } catch (error) {
    if (!isUniqueViolation(error)) throw error;
    const winner = await findDataFile(options.database, described, everything);
    if (winner === undefined)
      throw unavailable("UPLOAD_INTERRUPTED", "the data was being put by somebody else", 1000, error);
    return repeated(winner, described, received.result());
  }
}

interface Writing {
  readonly file: Omit<Described, "expected">;
  readonly expected: string | undefined;
  readonly head: IteratorResult<Buffer, unknown>;
  readonly received: Received;
}

async function write(
  { database, now }: UploadOptions,
  { file, expected, head, received }: Writing,
): Promise<StoredUpload> {
  const today = dayAt(now(), 0);
  const day = toIsoDay(today);
  let next = head;
  return withPartitions(database, async () => {
    await ensurePartitions(database, "data_chunk", new Set([today]));
    return database.transaction(async (transaction: Transaction) => {
      // Written a second time, and what came after the head is gone.
      if (next !== head)
        throw unavailable("UPLOAD_INTERRUPTED", "the data could not be kept, and is to be put again", 1000);
      const id = await nextFileId(transaction);
      let start = 0;
      for (; next.done !== true; next = await received.chunks.next()) {
        await insertChunk(transaction, { id, day }, start, next.value);
        start += next.value.length;
      }
      const result = checked(received, expected);
      await insertFile(transaction, { ...file, ...result, id, day });
      return { ...result, repeated: false };
    });
  });
}

function checked(received: Received, expected: string | undefined): { bytes: number; sha256: Buffer } {
  const result = received.result();
  const sha256 = result.sha256.toString("hex");
  if (expected === undefined || expected === sha256) return result;
  throw invalid({ field: "sha256", message: `the bytes that came have another one: ${sha256}` });
}

function repeated(known: DataFile, key: DataKey, result: { bytes: number; sha256: Buffer }): StoredUpload {
  if (!known.sha256.equals(result.sha256)) throw alreadyExists("data", `${key.tracecode} ${key.flow} ${key.stage}`);
  return { ...result, repeated: true };
}
