import type { OutgoingHttpHeaders } from "node:http2";
import { create } from "@bufbuild/protobuf";
import { ConnectError } from "@connectrpc/connect";
import { grpcStatusOk, headerStatusDetailsBin, setTrailerStatus } from "@connectrpc/connect/protocol-grpc";
import { StatusSchema } from "#gen/google/rpc/status_pb.js";
import { toNodeHeaders } from "../call/headers.ts";
import { encodeMessage } from "./encode.ts";

/**
 * Builds the trailers of a gRPC response: status, message, error details and metadata.
 * @param given trailers that the handler set
 */
export function toTrailers(given: Headers | undefined, error: ConnectError | undefined): OutgoingHttpHeaders {
  // Most calls succeed and set no trailers.
  if (given === undefined && error === undefined) return { "grpc-status": grpcStatusOk };
  if (error === undefined || error.details.length === 0) {
    return toNodeHeaders(setTrailerStatus(new Headers(given), error));
  }
  // Under overload most calls end here. setTrailerStatus spends more time on the details than a whole quota decision.
  const { rawMessage, code, metadata } = error;
  const headers = setTrailerStatus(new Headers(given), new ConnectError(rawMessage, code, metadata));
  headers.set(headerStatusDetailsBin, encodeStatus(error).toString("base64").replace(/=+$/, ""));
  return toNodeHeaders(headers);
}

/** Encodes an error with its details as a google.rpc.Status. */
export function encodeStatus({ code, rawMessage: message, details }: ConnectError): Buffer<ArrayBuffer> {
  const packed = details.map((detail) => ({
    typeUrl: `type.googleapis.com/${"desc" in detail ? detail.desc.typeName : detail.type}`,
    value: "desc" in detail ? encodeMessage(detail.desc, create(detail.desc, detail.value)) : detail.value,
  }));
  return Buffer.from(encodeMessage(StatusSchema, create(StatusSchema, { code, message, details: packed })));
}
