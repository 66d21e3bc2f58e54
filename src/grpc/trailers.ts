import type { OutgoingHttpHeaders } from "node:http2";
import { create } from "@bufbuild/protobuf";
import { ConnectError } from "@connectrpc/connect";
import { grpcStatusOk, headerStatusDetailsBin, setTrailerStatus } from "@connectrpc/connect/protocol-grpc";
import { StatusSchema } from "#gen/google/rpc/status_pb.js";
import { encodeMessage } from "./encode.ts";

/**
 * How a call has ended, as gRPC tells it: an error by its code, its text, its details, and its metadata beside them.
 * @param given what the handler wants to be sent after its answer
 */
export function toTrailers(given: Headers | undefined, error: ConnectError | undefined): OutgoingHttpHeaders {
  // Most calls end well, and have nothing to add.
  if (given === undefined && error === undefined) return { "grpc-status": grpcStatusOk };
  if (error === undefined || error.details.length === 0) {
    return toNodeHeaders(setTrailerStatus(new Headers(given), error));
  }
  // Under overload most calls end so: setTrailerStatus would take longer over the details than the whole decision takes.
  const { rawMessage, code, metadata } = error;
  const headers = setTrailerStatus(new Headers(given), new ConnectError(rawMessage, code, metadata));
  headers.set(headerStatusDetailsBin, toStatus(error).toString("base64").replace(/=+$/, ""));
  return toNodeHeaders(headers);
}

function toStatus({ code, rawMessage: message, details }: ConnectError): Buffer {
  const packed = details.map((detail) => ({
    typeUrl: `type.googleapis.com/${"desc" in detail ? detail.desc.typeName : detail.type}`,
    value: "desc" in detail ? encodeMessage(detail.desc, create(detail.desc, detail.value)) : detail.value,
  }));
  return Buffer.from(encodeMessage(StatusSchema, create(StatusSchema, { code, message, details: packed })));
}

/** Without what belongs to the connection: Node throws at it, and for trailers it does so where nobody can catch it. */
export function toNodeHeaders(headers: Headers): OutgoingHttpHeaders {
  const result: OutgoingHttpHeaders = {};
  for (const [name, value] of headers) if (!ofConnection.has(name)) result[name] = value;
  const cookies = headers.getSetCookie();
  if (cookies.length > 0) result["set-cookie"] = cookies;
  return result;
}

/** What Node refuses to send over HTTP/2. */
const ofConnection: ReadonlySet<string> = new Set([
  "connection",
  "http2-settings",
  "keep-alive",
  "proxy-connection",
  "te",
  "transfer-encoding",
  "upgrade",
]);
