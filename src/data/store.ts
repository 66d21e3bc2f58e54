import type { Knex } from "knex";
import { Data_Flow } from "#gen/tollgate/v1/data_pb.js";
import type { Database, Transaction } from "../postgres/database.ts";
import { deleteInBatches, deleteOldRows } from "../postgres/retention.ts";
import { defineStatements, queryRows } from "../postgres/statements.ts";
import { dayAt, toIsoDay } from "../shared/calendar.ts";
import type { Scope } from "../shared/principal.ts";
import { toMediaType } from "./media-type.ts";

/** Identifies a file. */
export interface DataKey {
  readonly tracecode: string;
  /** Number of Data.Flow. */
  readonly flow: number;
  readonly stage: number;
}

export interface DataFile extends DataKey {
  readonly id: number;
  /** YYYY-MM-DD */
  readonly day: string;
  readonly user_id: number;
  readonly username: string;
  readonly company_key: string;
  readonly content_type: string;
  readonly filename: string;
  readonly bytes: number;
  readonly sha256: Buffer;
}

/** Finds a file with its key. Returns undefined when the scope has no such file. */
export async function findDataFile(database: Database, { tracecode, flow, stage }: DataKey, scope: Scope) {
  const query = database<DataFile>("data_file")
    .first("*")
    .where({ tracecode, flow: toStoredFlow(flow), stage });
  const row = (await whereInScope(query, scope)) as DataFile | undefined;
  return row && fromStored(row);
}

/** INPUT has the number 0 in the table, as in release 1.0, whose servers may run beside this one. */
const storedInput = 0;

function toStoredFlow(flow: number): number {
  return flow === Data_Flow.INPUT ? storedInput : flow;
}

/** Version 1.0 stored any text as a content type. */
function fromStored<File extends DataFile>(file: File): File {
  const flow = file.flow === storedInput ? Data_Flow.INPUT : file.flow;
  return { ...file, flow, content_type: toMediaType(file.content_type) };
}

function whereInScope<Query extends Knex.QueryBuilder>(query: Query, scope: Scope): Query {
  if (scope.kind === "company") void query.where({ company_key: scope.companyKey });
  if (scope.kind === "self") void query.where({ user_id: scope.userId });
  return query;
}

/** A file and when it was uploaded. */
export type ListedFile = DataFile & { readonly created_at: Date };

/** Lists the files of a tracecode that the scope permits: by flow, INPUT first, then by stage. */
export async function listFiles(database: Database, tracecode: string, scope: Scope): Promise<ListedFile[]> {
  const query = database<ListedFile>("data_file")
    .where({ tracecode })
    // INPUT has the smaller number in the table.
    .orderBy(["flow", "stage"]);
  return (await whereInScope(query, scope)).map(fromStored);
}

/** The columns that link an audit action to its data. */
type Traced = Pick<DataFile, "tracecode" | "user_id">;

/**
 * Looks up in one query which of the pairs have data.
 * @returns a predicate: whether the user has data under the tracecode
 */
export async function findCodesWithData(
  database: Database,
  traced: readonly Traced[],
): Promise<(pair: Traced) => boolean> {
  const tracecodes = [...new Set(traced.map(({ tracecode }) => tracecode))];
  const rows = await queryRows<Traced>(database, sql.findTraced, [tracecodes]);
  const found = new Set(rows.map(keyOf));
  return (pair) => found.has(keyOf(pair));
}

function keyOf({ tracecode, user_id }: Traced): string {
  return `${tracecode} ${user_id}`;
}

/** The user that data belongs to. */
export type DataOwner = Pick<DataFile, "user_id" | "username" | "company_key">;

/** Finds the owner of the tracecode's first file by the name at the time of that upload. */
export async function findDataOwner(
  database: Database,
  { tracecode, username }: Pick<DataFile, "tracecode" | "username">,
): Promise<DataOwner | undefined> {
  return database<DataFile>("data_file")
    .first("user_id", "username", "company_key")
    .where({ tracecode, username })
    .orderBy("id");
}

/** Reserves the id of a new file. */
export async function nextFileId(transaction: Transaction): Promise<number> {
  const [row] = await queryRows<{ id: number }>(transaction, sql.nextFileId);
  return row?.id ?? 0;
}

/** Inserts a file without its bytes. @throws a unique violation when its key is taken */
export async function insertFile(transaction: Transaction, file: DataFile): Promise<void> {
  await transaction("data_file").insert({ ...file, flow: toStoredFlow(file.flow) });
}

/** Inserts a piece of a file's bytes. `start` is the offset of its first byte. */
export async function insertChunk(
  transaction: Transaction,
  { id, day }: Pick<DataFile, "id" | "day">,
  start: number,
  content: Buffer,
): Promise<void> {
  await transaction("data_chunk").insert({ file_id: id, day, start, content });
}

/**
 * Bytes that one statement reads. PostgreSQL sends them as text: a whole chunk stops the event loop for some 6 ms, and costs
 * twice as much as its pieces.
 */
const pieceBytes = 65_536;

/** Yields the bytes of a file from `from` to `to` (exclusive), piece by piece. */
export async function* streamBytes(
  database: Database,
  { id, day }: Pick<DataFile, "id" | "day">,
  { from, to, signal }: { readonly from: number; readonly to: number; readonly signal: AbortSignal },
): AsyncGenerator<Buffer> {
  let at = from;
  while (at < to) {
    signal.throwIfAborted();
    const bytes = Math.min(pieceBytes, to - at);
    const [piece] = await queryRows<{ content: Buffer }>(database, sql.readPiece, [id, day, at, bytes]);
    if (piece === undefined || piece.content.length === 0) throw new Error(`file ${id} has no byte ${at}`);
    yield piece.content;
    at += piece.content.length;
  }
}

/** Deletes the rows of files of earlier days. Their chunks are dropped with their partitions. */
export async function dropFiles(database: Database, beforeMs: number): Promise<void> {
  await deleteInBatches(database, sql.deleteFiles, toIsoDay(dayAt(beforeMs, 0)));
}

const sql = defineStatements("data", {
  findTraced: "select distinct tracecode, user_id from data_file where tracecode = any($1::uuid[])",
  nextFileId: "select nextval(pg_get_serial_sequence('data_file', 'id')) as id",
  readPiece: `
    select substring(content from ($3 - start)::int + 1 for $4) as content from data_chunk
    where file_id = $1 and day = $2 and start <= $3 order by start desc limit 1`,
  deleteFiles: deleteOldRows("data_file", "day"),
});
