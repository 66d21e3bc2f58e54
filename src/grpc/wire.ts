/**
 * Writes protobuf's wire format (https://protobuf.dev/programming-guides/encoding) into one reused buffer. Only one message
 * can be written at a time.
 */
const initialBytes = 65_536;
/** A larger buffer is released after its message. */
const maxReusedBytes = 1_048_576;

const sink = {
  bytes: Buffer.allocUnsafe(initialBytes),
  at: 0,
  isAbandoned: false,
};

/** @param start bytes at the start that the caller fills in after `finishMessage` */
export function beginMessage(start: number): void {
  sink.at = start;
  sink.isAbandoned = false;
}

/** Returns a copy of the bytes written since `beginMessage`; undefined after `abandonMessage`. */
export function finishMessage(): Buffer | undefined {
  if (sink.isAbandoned) return undefined;
  const bytes = Buffer.from(sink.bytes.subarray(0, sink.at));
  if (sink.bytes.length > maxReusedBytes) sink.bytes = Buffer.allocUnsafe(initialBytes);
  return bytes;
}

/** Gives up the current message: it has a value or a field that this encoder does not support. */
export function abandonMessage(): void {
  sink.isAbandoned = true;
}

const double = new Float64Array(1);
const doubleBytes = new Uint8Array(double.buffer);
/** In characters. Shorter ASCII texts are written without a call into Node. */
const shortText = 64;

function makeRoom(length: number): void {
  if (sink.at + length <= sink.bytes.length) return;
  const larger = Buffer.allocUnsafe(Math.max(sink.bytes.length * 2, sink.at + length));
  sink.bytes.copy(larger, 0, 0, sink.at);
  sink.bytes = larger;
}

/** Writes eight bytes, little-endian. */
export function putDouble(value: number): void {
  double[0] = value;
  makeRoom(8);
  sink.bytes.set(doubleBytes, sink.at);
  sink.at += 8;
}

/** @param value an unsigned integer of at most 32 bits */
export function putVarint(value: number): void {
  makeRoom(5);
  let rest = value;
  while (rest > 0x7f) {
    sink.bytes[sink.at] = (rest & 0x7f) | 0x80;
    sink.at += 1;
    rest >>>= 7;
  }
  sink.bytes[sink.at] = rest;
  sink.at += 1;
}

/** Writes a length and the bytes. */
export function putBytes(value: Uint8Array): void {
  putVarint(value.length);
  makeRoom(value.length);
  sink.bytes.set(value, sink.at);
  sink.at += value.length;
}

/** Writes a length and the text in UTF-8. */
export function putText(text: string): void {
  if (text.length > shortText) return putLongText(text);
  makeRoom(shortText + 1);
  const start = sink.at;
  sink.bytes[start] = text.length;
  for (let index = 0; index < text.length; index += 1) {
    const code = text.charCodeAt(index);
    if (code > 0x7f) return putLongText(text);
    sink.bytes[start + 1 + index] = code;
  }
  sink.at = start + 1 + text.length;
}

function putLongText(text: string): void {
  const length = Buffer.byteLength(text);
  putVarint(length);
  makeRoom(length);
  sink.bytes.write(text, sink.at);
  sink.at += length;
}

/** Writes a length and what `write` puts. It reserves one byte for the length and moves the content if it needs more. */
export function putNested(write: () => void): void {
  makeRoom(1);
  const start = sink.at;
  sink.at = start + 1;
  write();
  const length = sink.at - start - 1;
  if (length <= 0x7f) {
    sink.bytes[start] = length;
    return;
  }
  const lengthBytes = varintBytes(length);
  makeRoom(lengthBytes);
  sink.bytes.copyWithin(start + lengthBytes, start + 1, sink.at);
  sink.at = start;
  putVarint(length);
  sink.at = start + lengthBytes + length;
}

function varintBytes(value: number): number {
  return Math.ceil((32 - Math.clz32(value)) / 7);
}
