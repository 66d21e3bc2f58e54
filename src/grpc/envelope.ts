import type { Readable } from "node:stream";
import { Code, type ConnectError } from "@connectrpc/connect";
import { createCollector } from "../call/collector.ts";
import { callerGone } from "../call/context.ts";
import { callError } from "../call/errors.ts";

/** Limits of the request body. */
export interface EnvelopeLimits {
  readonly maxBytes: number;
  readonly timeoutMs: number;
}

/** A flag byte and a length of four bytes. */
const prefixBytes = 5;
const compressedFlag = 1;

/**
 * Reads the message of a unary call (gRPC over HTTP2, Length-Prefixed-Message). It listens to events, because ending an
 * iterator would destroy the stream and its response. A message that is too long is refused by its prefix.
 * @throws what Connect's adapter throws for the same bytes
 */
export function readEnvelope(stream: Readable, { maxBytes, timeoutMs }: EnvelopeLimits): Promise<Uint8Array> {
  return new Promise((resolve, reject) => {
    const collected = createCollector();
    let expected = prefixBytes;
    const timer = setTimeout(() => settle(tooSlow(timeoutMs)), timeoutMs);
    stream.on("data", onData).once("end", onEnd).once("close", onClose);

    function onData(chunk: Buffer): void {
      collected.add(chunk);
      const received = collected.length;
      if (received < prefixBytes) return;
      if (expected === prefixBytes) expected += collected.bytes().readUInt32BE(1);
      const length = expected - prefixBytes;
      if (length > maxBytes) settle(tooLarge(length, maxBytes));
      else if (received >= expected + prefixBytes)
        settle(unimplemented("received extra input message for unary method"));
    }

    function onEnd(): void {
      const received = collected.length;
      if (received === 0) return settle(unimplemented("missing input message for unary method"));
      // More bytes are the start of another message.
      if (received !== expected) return settle(incomplete());
      const bytes = collected.bytes();
      if (((bytes[0] ?? 0) & compressedFlag) === 0) settle(undefined, bytes.subarray(prefixBytes));
      else settle(compressed());
    }

    function onClose(): void {
      settle(callerGone());
    }

    function settle(error: ConnectError | undefined, message: Uint8Array = new Uint8Array()): void {
      clearTimeout(timer);
      stream.off("data", onData).off("end", onEnd).off("close", onClose);
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

function tooSlow(timeoutMs: number): ConnectError {
  return callError("BODY_TOO_SLOW", Code.DeadlineExceeded, `the body must arrive within ${timeoutMs} ms`);
}
