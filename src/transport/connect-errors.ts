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

/** Turns an error of Connect into the public error, with tracedata. */
type ToPublicError = (error: ConnectError) => ConnectError;

/**
 * Replaces an error in a response that Connect created itself: malformed bytes, an unknown field, a message that is too
 * large. Connect has no hook for these errors, so they are read from where each protocol writes them. Responses are not
 * compressed, so they can be read.
 */
export async function replaceConnectError(
  response: UniversalServerResponse,
  toPublic: ToPublicError,
): Promise<UniversalServerResponse> {
  const { body, status, trailer } = response;
  const type = response.header?.get("content-type") ?? "";
  if (body === undefined) return response;
  if (type.startsWith("application/grpc-web")) {
    return {
      ...response,
      body: mapEnvelope(body, trailerFlag, (data) => replaceInTrailer(trailerParse(data), toPublic)),
    };
  }
  if (trailer !== undefined) return { ...response, body: thenReplaceInTrailer(body, trailer, toPublic) };
  if (type.startsWith("application/connect+")) {
    return { ...response, body: mapEnvelope(body, endStreamFlag, (data) => replaceInEndStream(data, toPublic)) };
  }
  return status < 400 ? response : replaceUnaryError(response, body, toPublic);
}

/**
 * Returns the public error; undefined for an error of the pipeline. The new error leaves out the metadata, which Connect
 * has already written into the headers.
 */
function replacementOf(error: ConnectError, toPublic: ToPublicError): ConnectError | undefined {
  if (error.findDetails(TracedataSchema).length > 0) return undefined;
  const copy = new ConnectError(error.rawMessage, error.code);
  copy.details.push(...error.details);
  return toPublic(copy);
}

async function* thenReplaceInTrailer(body: AsyncIterable<Uint8Array>, trailer: Headers, toPublic: ToPublicError) {
  yield* body;
  replaceInTrailer(trailer, toPublic);
}

function replaceInTrailer(trailer: Headers, toPublic: ToPublicError): Uint8Array {
  const error = findTrailerError(trailer);
  const replacement = error && replacementOf(error, toPublic);
  if (replacement !== undefined) setTrailerStatus(trailer, replacement);
  return trailerSerialize(trailer);
}

function replaceInEndStream(data: Uint8Array, toPublic: ToPublicError): Uint8Array {
  const { error, metadata } = endStreamFromJson(data);
  const replacement = error && replacementOf(error, toPublic);
  if (replacement === undefined) return data;
  return Buffer.from(JSON.stringify(endStreamToJson(metadata, replacement, undefined)));
}

/** Changes the data of envelopes with a flag. Connect yields one envelope at a time: flags, four bytes of length, data. */
async function* mapEnvelope(
  body: AsyncIterable<Uint8Array>,
  flag: number,
  change: (data: Uint8Array) => Uint8Array,
): AsyncGenerator<Uint8Array> {
  for await (const envelope of body) {
    yield envelope[0] === flag ? encodeEnvelope(flag, change(envelope.subarray(5))) : envelope;
  }
}

async function replaceUnaryError(
  response: UniversalServerResponse,
  body: AsyncIterable<Uint8Array>,
  toPublic: ToPublicError,
): Promise<UniversalServerResponse> {
  const bytes = await readAllBytes(body, Number.MAX_SAFE_INTEGER);
  const error = errorFromJsonBytes(bytes, undefined, new ConnectError("internal error", Code.Internal));
  const replacement = replacementOf(error, toPublic);
  if (replacement === undefined) return { ...response, body: createAsyncIterable([bytes]) };
  const json = errorToJsonBytes(replacement, undefined);
  const header = new Headers(response.header);
  header.set("content-length", String(json.length));
  return { status: codeToHttpStatus(replacement.code), header, body: createAsyncIterable([json]) };
}
