import { Code, ConnectError } from "@connectrpc/connect";
import {
  createAsyncIterable,
  encodeEnvelope,
  readAllBytes,
  type UniversalServerResponse,
} from "@connectrpc/connect/protocol";
import {
  codeToHttpStatus,
  endStreamFlag,
  endStreamFromJson,
  endStreamToJson,
  errorFromJsonBytes,
  errorToJsonBytes,
} from "@connectrpc/connect/protocol-connect";
import { findTrailerError, setTrailerStatus } from "@connectrpc/connect/protocol-grpc";
import { trailerFlag, trailerParse, trailerSerialize } from "@connectrpc/connect/protocol-grpc-web";
import { TracedataSchema } from "#gen/tollgate/v1/tracedata_pb.js";

/** Makes of an error that Connect has made what a caller may read, tracedata included. */
type Explain = (error: ConnectError) => ConnectError;

/**
 * An answer whose error, where it has one that the pipeline has not seen, is explained: bytes that are no message, an
 * unknown field, too large a message. Connect has no hook for these, so they are looked for where each protocol
 * writes its errors. Answers are not compressed: what is looked at is plain.
 */
export async function explainConnectError(
  answer: UniversalServerResponse,
  explain: Explain,
): Promise<UniversalServerResponse> {
  const { body, status, trailer } = answer;
  const type = answer.header?.get("content-type") ?? "";
  if (body === undefined) return answer;
  if (type.startsWith("application/grpc-web")) {
    return { ...answer, body: withLast(body, trailerFlag, (data) => inTrailer(trailerParse(data), explain)) };
  }
  if (trailer !== undefined) return { ...answer, body: withTrailer(body, trailer, explain) };
  if (type.startsWith("application/connect+")) {
    return { ...answer, body: withLast(body, endStreamFlag, (data) => inEndOfStream(data, explain)) };
  }
  return status < 400 ? answer : withUnaryError(answer, body, explain);
}

/** Unless it was made by the pipeline, an error of its own: what it shares with the answer's headers is written there. */
function explained(error: ConnectError, explain: Explain): ConnectError | undefined {
  if (error.findDetails(TracedataSchema).length > 0) return undefined;
  const own = new ConnectError(error.rawMessage, error.code);
  own.details.push(...error.details);
  return explain(own);
}

async function* withTrailer(body: AsyncIterable<Uint8Array>, trailer: Headers, explain: Explain) {
  yield* body;
  inTrailer(trailer, explain);
}

function inTrailer(trailer: Headers, explain: Explain): Uint8Array {
  const error = findTrailerError(trailer);
  const better = error && explained(error, explain);
  if (better !== undefined) setTrailerStatus(trailer, better);
  return trailerSerialize(trailer);
}

function inEndOfStream(data: Uint8Array, explain: Explain): Uint8Array {
  const { error, metadata } = endStreamFromJson(data);
  const better = error && explained(error, explain);
  return better === undefined ? data : Buffer.from(JSON.stringify(endStreamToJson(metadata, better, undefined)));
}

/** Connect yields one envelope at a time: a byte of flags, four of length, the data. */
async function* withLast(
  body: AsyncIterable<Uint8Array>,
  flag: number,
  change: (data: Uint8Array) => Uint8Array,
): AsyncGenerator<Uint8Array> {
  for await (const envelope of body) {
    yield envelope[0] === flag ? encodeEnvelope(flag, change(envelope.subarray(5))) : envelope;
  }
}

async function withUnaryError(
  answer: UniversalServerResponse,
  body: AsyncIterable<Uint8Array>,
  explain: Explain,
): Promise<UniversalServerResponse> {
  const bytes = await readAllBytes(body, Number.MAX_SAFE_INTEGER);
  const error = errorFromJsonBytes(bytes, undefined, new ConnectError("internal error", Code.Internal));
  const better = explained(error, explain);
  if (better === undefined) return { ...answer, body: createAsyncIterable([bytes]) };
  const json = errorToJsonBytes(better, undefined);
  const header = new Headers(answer.header);
  header.set("content-length", String(json.length));
  return { status: codeToHttpStatus(better.code), header, body: createAsyncIterable([json]) };
}
