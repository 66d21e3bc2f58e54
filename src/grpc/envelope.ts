import type { Readable } from "node:stream";
import { Code, type ConnectError } from "@connectrpc/connect";
import { createCollector } from "../call/collector.ts";
import { callerGone } from "../call/context.ts";
import { callError } from "../call/errors.ts";

/** What a caller may send, and how long it may take. */
export interface EnvelopeLimits {
  readonly maxBytes: number;
  readonly timeoutMs: number;
}

const headBytes = 5;
const compressedFlag = 1;

/**
 * The one message of a unary call: a byte of flags, four of length, the message (gRPC over HTTP2, Length-Prefixed-Message).
 * By events, so that a refusal leaves the stream as it is; what is longer is refused by its head.
 * @throws what Connect's adapter throws of the same bytes
 */
export function readEnvelope(stream: Readable, { maxBytes, timeoutMs }: EnvelopeLimits): Promise<Uint8Array> {
  return new Promise((resolve, reject) => {
    const collected = createCollector();
    let wanted = headBytes;
    const timer = setTimeout(() => settle(late(timeoutMs)), timeoutMs);
    stream.on("data", take).once("end", end).once("close", leave);

    function take(chunk: Buffer): void {
      collected.add(chunk);
      const received = collected.length;
      if (received < headBytes) return;
      if (wanted === headBytes) wanted += collected.bytes().readUInt32BE(1);
      const length = wanted - headBytes;
      if (length > maxBytes) settle(tooLarge(length, maxBytes));
      else if (received >= wanted + headBytes) settle(unimplemented("received extra input message for unary method"));
    }

    function end(): void {
      const received = collected.length;
      if (received === 0) return settle(unimplemented("missing input message for unary method"));
      // What follows the message is the start of another.
      if (received !== wanted) return settle(incomplete());
      const bytes = collected.bytes();
      if (((bytes[0] ?? 0) & compressedFlag) === 0) settle(undefined, bytes.subarray(headBytes));
      else settle(compressed());
    }

    function leave(): void {
      settle(callerGone());
    }

    function settle(error: ConnectError | undefined, message: Uint8Array = new Uint8Array()): void {
      clearTimeout(timer);
      stream.off("data", take).off("end", end).off("close", leave);
      if (error === undefined) resolve(message);
      else {
        stream.pause();
        reject(error);
      }
    }
  });
}

function incomplete(): ConnectError {
  return callError("MALFORMED_MESSAGE", Code.InvalidArgument, "protocol error: incomplete envelope");
}

function compressed(): ConnectError {
  const text = "received compressed envelope, but do not know how to decompress";
  return callError("MALFORMED_MESSAGE", Code.InvalidArgument, text);
}

function tooLarge(length: number, maxBytes: number): ConnectError {
  const text = `message size ${length} is larger than configured readMaxBytes ${maxBytes}`;
  return callError("TOO_LARGE", Code.ResourceExhausted, text);
}

function unimplemented(text: string): ConnectError {
  return callError("PROTOCOL_VIOLATION", Code.Unimplemented, `protocol error: ${text}`);
}

function late(timeoutMs: number): ConnectError {
  return callError("BODY_TOO_SLOW", Code.DeadlineExceeded, `the body did not come within ${timeoutMs} ms`);
}
