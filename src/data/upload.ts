import { createHash } from "node:crypto";
import type { PutDataRequest } from "#gen/tollgate/v1/data_pb.js";
import { acquireBulkSlot } from "../postgres/bulk-slots.ts";
import type { Database, Transaction } from "../postgres/database.ts";
import { isUniqueViolation } from "../postgres/errors.ts";
import { ensurePartitions, withPartitions } from "../postgres/partitions.ts";
import { dayAt, toIsoDay } from "../shared/calendar.ts";
import { alreadyExists, invalid, tooLarge, unavailable } from "../shared/errors.ts";
import { type Call, requirePresent } from "../shared/handler.ts";
import { toMediaType } from "./media-type.ts";
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
import { withMinimumRate, withPartTimeout } from "./upload-deadlines.ts";

export interface UploadOptions {
  readonly database: Database;
  /** Returns undefined when no user has this name now. */
  readonly findUser: (username: string) => Promise<KnownUser | undefined>;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
  readonly maxBytes: number;
  /** The longest wait for a part, and the longest delay against the minimum rate. */
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
/** Bytes of one row of data_chunk. */
const chunkBytes = 262_144;

/**
 * Stores an upload in one transaction: an interrupted upload leaves nothing. An upload of bytes that are stored already
 * changes nothing and is marked as repeated.
 * @throws ALREADY_EXISTS when other bytes are stored under the key; INVALID_ARGUMENT when a field breaks a rule;
 * DEADLINE_EXCEEDED when the client is too slow; RESOURCE_EXHAUSTED when the data is too large; UNAVAILABLE when the
 * upload must be sent again
 */
export async function storeUpload(
  options: UploadOptions,
  requests: AsyncIterable<PutDataRequest>,
  { isHttp, signal }: Pick<Call, "isHttp" | "signal">,
): Promise<StoredUpload> {
  // HTTP requests have this timeout already, and respond with 408.
  const timed = isHttp ? requests : withPartTimeout(requests, options.pieceTimeoutMs);
  const iterator = withMinimumRate(timed, options.pieceTimeoutMs);
  try {
    const first = await iterator.next();
    if (first.done === true) throw invalid({ field: "tracecode", message: "must be set: the request has no message" });
    const described = await describe(options, first.value);
    const received = receive(options, first.value, { [Symbol.asyncIterator]: () => iterator }, signal);
    return await store(options, described, received, signal);
  } finally {
    // The rest of a refused upload is not read.
    await iterator.return(undefined);
  }
}

type Described = Omit<DataFile, "id" | "day" | "bytes" | "sha256"> & { readonly expected: string | undefined };

async function describe({ database, findUser }: UploadOptions, request: PutDataRequest): Promise<Described> {
  const { username, dataFlowType, dataFlowStage: stage, file } = request;
  const tracecode = request.tracecode?.toLowerCase();
  if (tracecode === undefined) throw invalid({ field: "tracecode", message: "must be set in the first message" });
  if (username === undefined) throw invalid({ field: "username", message: "must be set in the first message" });
  // All data of a tracecode belongs to one user, even if a later user has the same name.
  const owner = (await findDataOwner(database, { tracecode, username })) ?? toOwner(await findUser(username));
  if (owner === undefined)
    throw invalid({ field: "username", message: `must be the name of an existing user: ${username}` });
  return {
    ...owner,
    tracecode,
    flow: requirePresent(dataFlowType),
    stage,
    content_type: toMediaType(file?.contentType ?? ""),
    filename: request.filename ?? tracecode,
    expected: request.sha256?.toLowerCase(),
  };
}

function toOwner(user: KnownUser | undefined): DataOwner | undefined {
  return user && { user_id: user.userId, username: user.username, company_key: user.companyKey };
}

/** Cuts an upload into chunks of chunkBytes; the last one may be shorter. `result` is complete after the last chunk. */
function receive(
  options: UploadOptions,
  first: PutDataRequest,
  rest: AsyncIterable<PutDataRequest>,
  signal: AbortSignal,
) {
  const hash = createHash("sha256");
  let bytes = 0;
  let sha256: Buffer | undefined;
  let isComplete = false;

  async function* parts(): AsyncGenerator<Uint8Array> {
    yield first.file?.data ?? new Uint8Array();
    for await (const request of rest) {
      if (request.tracecode !== undefined || request.username !== undefined) {
        throw invalid({ field: "tracecode", message: "must be set in the first message only" });
      }
      yield request.file?.data ?? new Uint8Array();
    }
  }

  async function* chunks(): AsyncGenerator<Buffer> {
    let buffered: Uint8Array[] = [];
    let length = 0;
    for await (const part of parts()) {
      signal.throwIfAborted();
      bytes += part.length;
      if (bytes > options.maxBytes) throw tooLarge(`the data is larger than ${options.maxBytes} bytes`);
      hash.update(part);
      buffered.push(part);
      length += part.length;
      if (length < chunkBytes) continue;
      const all = Buffer.concat(buffered);
      let at = 0;
      for (; at + chunkBytes <= all.length; at += chunkBytes) yield all.subarray(at, at + chunkBytes);
      // Copied: a view would keep the whole buffer in memory.
      buffered = [Buffer.from(all.subarray(at))];
      length = all.length - at;
    }
    isComplete = true;
    if (length > 0) yield Buffer.concat(buffered);
  }

  return {
    chunks: chunks(),
    /** Whether all parts have arrived. */
    isComplete: () => isComplete,
    result: () => ({ bytes, sha256: (sha256 ??= hash.digest()) }),
  };
}

type Received = ReturnType<typeof receive>;

async function store(
  options: UploadOptions,
  described: Described,
  received: Received,
  signal: AbortSignal,
): Promise<StoredUpload> {
  const { expected, ...file } = described;
  const existing = await findDataFile(options.database, described, everything);
  if (existing !== undefined) {
    for await (const _chunk of received.chunks);
    return repeatedUpload(existing, described, checkedResult(received, expected));
  }
  try {
    // Most uploads are one chunk. It is complete before a connection is taken, so it needs no bulk slot.
    const firstChunk = await received.chunks.next();
    const release = received.isComplete()
      ? undefined
      : await acquireBulkSlot(options.database, { kind: "uploads", signal });
    try {
      return await write(options, { file, expected, firstChunk, received });
    } finally {
      release?.();
    }
  } catch (error) {
    if (!isUniqueViolation(error)) throw error;
    const winner = await findDataFile(options.database, described, everything);
    if (winner === undefined)
      throw unavailable(
        "UPLOAD_INTERRUPTED",
        "another upload of the same data was in progress: send it again",
        1000,
        error,
      );
    return repeatedUpload(winner, described, received.result());
  }
}

interface Write {
  readonly file: Omit<Described, "expected">;
  readonly expected: string | undefined;
  readonly firstChunk: IteratorResult<Buffer, unknown>;
  readonly received: Received;
}

async function write(
  { database, now }: UploadOptions,
  { file, expected, firstChunk, received }: Write,
): Promise<StoredUpload> {
  const today = dayAt(now(), 0);
  const day = toIsoDay(today);
  let next = firstChunk;
  return withPartitions(database, async () => {
    await ensurePartitions(database, "data_chunk", new Set([today]));
    return database.transaction(async (transaction: Transaction) => {
      // This is a second attempt, and the chunks after the first are no longer in memory.
      if (next !== firstChunk)
        throw unavailable("UPLOAD_INTERRUPTED", "the data could not be stored: send it again", 1000);
      const id = await nextFileId(transaction);
      let start = 0;
      for (; next.done !== true; next = await received.chunks.next()) {
        await insertChunk(transaction, { id, day }, start, next.value);
        start += next.value.length;
      }
      const result = checkedResult(received, expected);
      await insertFile(transaction, { ...file, ...result, id, day });
      return { ...result, repeated: false };
    });
  });
}

/** @throws INVALID_ARGUMENT when the checksum is not the expected one */
function checkedResult(received: Received, expected: string | undefined): { bytes: number; sha256: Buffer } {
  const result = received.result();
  const sha256 = result.sha256.toString("hex");
  if (expected === undefined || expected === sha256) return result;
  throw invalid({ field: "sha256", message: `must match the received bytes, whose SHA-256 is: ${sha256}` });
}

function repeatedUpload(existing: DataFile, key: DataKey, result: { bytes: number; sha256: Buffer }): StoredUpload {
  if (!existing.sha256.equals(result.sha256)) throw alreadyExists("data", `${key.tracecode} ${key.flow} ${key.stage}`);
  return { ...result, repeated: true };
}
