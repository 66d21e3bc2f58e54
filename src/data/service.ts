import { createHash } from "node:crypto";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { create as attachment } from "content-disposition";
import { Conversion_Name, type DataService } from "#gen/tollgate/v1/data_pb.js";
import { preconditionOf } from "../call/preconditions.ts";
import type { Database } from "../postgres/database.ts";
import { internal, notFound } from "../shared/errors.ts";
import { type Call, type Handlers, requirePresent } from "../shared/handler.ts";
import { scopeOf } from "../shared/principal.ts";
import { contentTypes, convert, kindOf } from "./convert.ts";
import { countConversion, countUpload, type DataCounts } from "./counts.ts";
import { type ByteRange, parseByteRange } from "./range.ts";
import { type DataFile, findDataFile, listFiles, streamBytes } from "./store.ts";
import { storeUpload, type UploadOptions } from "./upload.ts";

/** Bytes of one message; gRPC clients accept 4 MiB by default. */
const messageBytes = 262_144;

export interface DataServiceOptions extends UploadOptions {
  readonly counts: DataCounts;
}

export function dataHandlers(options: DataServiceOptions): Handlers<typeof DataService> {
  const { database, counts } = options;
  return {
    async *readData({ tracecode, dataFlowType, dataFlowStage: stage, dataFlowConvert }, call) {
      const key = { tracecode: tracecode.toLowerCase(), flow: requirePresent(dataFlowType), stage };
      const file = await findDataFile(database, key, scopeOf(call.principal));
      if (file === undefined) throw notFound("data", tracecode);
      call.recordRead({ username: file.username, companyKey: file.company_key });
      if (dataFlowConvert === Conversion_Name.ORIGIN) return yield* streamOriginal(database, file, call);
      const to = dataFlowConvert === Conversion_Name.JSON ? "json" : "xlsx";
      const filename = `${file.filename.replace(/\.(json|xlsx)$/i, "")}.${to}`;
      const contentType = contentTypes[to];
      const kind = kindOf(file);
      if (kind === to) return yield* streamOriginal(database, { ...file, filename, content_type: contentType }, call);
      const stored = { read: () => readWhole(database, file, call.signal), ...file };
      const { bytes, release } = await countConversion(counts, kind, convert(stored, call.signal));
      try {
        call.responseHeader.set("content-disposition", attachment(filename));
        for (let at = 0; at < bytes.length; at += messageBytes) {
          yield { file: { contentType, data: bytes.subarray(at, at + messageBytes) } };
        }
      } finally {
        release();
      }
    },

    async readDataFiles({ tracecode }, call) {
      const files = await listFiles(database, tracecode.toLowerCase(), scopeOf(call.principal));
      for (const { username, company_key: companyKey } of files) call.recordRead({ username, companyKey });
      return {
        files: files.map((file) => ({
          dataFlowType: file.flow,
          dataFlowStage: file.stage,
          contentType: file.content_type,
          filename: file.filename,
          bytes: BigInt(file.bytes),
          sha256: file.sha256.toString("hex"),
          time: timestampFromDate(file.created_at),
        })),
      };
    },

    async putData(requests, call) {
      const { bytes, sha256, repeated } = await countUpload(counts, storeUpload(options, requests, call));
      return { bytes: BigInt(bytes), sha256: sha256.toString("hex"), repeated };
    },
  };
}

/** Yields the stored bytes, or the range of them that the request names. */
async function* streamOriginal(
  database: Database,
  file: DataFile,
  call: Call,
): AsyncGenerator<{ file: { contentType: string; data: Uint8Array } }> {
  const { bytes, content_type: contentType } = file;
  call.responseHeader.set("content-disposition", attachment(file.filename));
  // Other protocols frame the bytes, so Content-Length would be wrong and there are no partial responses.
  const range = call.isHttp ? negotiateRange(file, call) : undefined;
  if (bytes === 0) yield { file: { contentType, data: new Uint8Array() } };
  const content =
    range === undefined
      ? readWhole(database, file, call.signal)
      : streamBytes(database, file, { ...range, signal: call.signal });
  for await (const data of content) yield { file: { contentType, data } };
}

/** Returns the requested range, or undefined for the whole file, and sets the response headers that describe it. */
function negotiateRange({ bytes, sha256 }: DataFile, { requestHeader, responseHeader }: Call): ByteRange | undefined {
  const etag = `"${sha256.toString("hex")}"`;
  const isMet = preconditionOf(requestHeader, etag) === "met";
  const range = isMet
    ? parseByteRange(requestHeader.get("range"), requestHeader.get("if-range"), { bytes, etag })
    : undefined;
  responseHeader.set("accept-ranges", "bytes");
  responseHeader.set("etag", etag);
  const { from, to } = range ?? { from: 0, to: bytes };
  responseHeader.set("content-length", String(to - from));
  if (range !== undefined) responseHeader.set("content-range", `bytes ${from}-${to - 1}/${bytes}`);
  return range;
}

/** Yields all bytes. The last piece is held back until the checksum of the whole file matches. */
async function* readWhole(database: Database, file: DataFile, signal: AbortSignal): AsyncGenerator<Buffer> {
  const hash = createHash("sha256");
  let last: Buffer | undefined;
  for await (const data of streamBytes(database, file, { from: 0, to: file.bytes, signal })) {
    if (last !== undefined) yield last;
    hash.update(data);
    last = data;
  }
  if (!hash.digest().equals(file.sha256)) throw internal(new Error(`the bytes of file ${file.id} have changed`));
  if (last !== undefined) yield last;
}
