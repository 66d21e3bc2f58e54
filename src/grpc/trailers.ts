import type { OutgoingHttpHeaders } from "node:http2";
import type { ConnectError } from "@connectrpc/connect";
import { setTrailerStatus } from "@connectrpc/connect/protocol-grpc";

/** An error as gRPC tells it: its code, its text, its details, and its metadata beside them. */
export function toTrailers(error: ConnectError): OutgoingHttpHeaders {
  return Object.fromEntries(setTrailerStatus(new Headers(), error));
}
