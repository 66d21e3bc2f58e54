/**
 * Protobuf's wire format (https://protobuf.dev/programming-guides/encoding), written into one buffer that is kept: there
 * is never more than one message that is being written.
 */
const firstBytes = 65_536;
/** A larger buffer is not kept for the messages to come. */
const keptBytes = 1_048_576;

const sink = {
  bytes: Buffer.allocUnsafe(firstBytes),
  at: 0,
  isGivenUp: false,
};

/** @param start how many bytes the caller fills in after finish */
export function beginMessage(start: number): void {
  sink.at = start;
  sink.isGivenUp = false;
}

/** A copy of what was put since begin; undefined where it was given up. */
export function finishMessage(): Buffer | undefined {
  if (sink.isGivenUp) return undefined;
  const bytes = Buffer.from(sink.bytes.subarray(0, sink.at));
  if (sink.bytes.length > keptBytes) sink.bytes = Buffer.allocUnsafe(firstBytes);
  return bytes;
}

/** Something was found that does not belong here: a value out of its range, an unknown field. */
export function abandonMessage(): void {
  sink.isGivenUp = true;
}

const double = new Float64Array(1);
const doubleBytes = new Uint8Array(double.buffer);
const shortText = 64;

function makeRoom(length: number): void {
  if (sink.at + length <= sink.bytes.length) return;
  const larger = Buffer.allocUnsafe(Math.max(sink.bytes.length * 2, sink.at + length));
  sink.bytes.copy(larger, 0, 0, sink.at);
  sink.bytes = larger;
}

/** Eight bytes, the least first. */
export function putDouble(value: number): void {
  double[0] = value;
  makeRoom(8);
  sink.bytes.set(doubleBytes, sink.at);
  sink.at += 8;
}

/** @param value at most 32 bits, without a sign */
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

/** Bytes after their length. */
export function putBytes(value: Uint8Array): void {
  putVarint(value.length);
  makeRoom(value.length);
  sink.bytes.set(value, sink.at);
  sink.at += value.length;
}

/** A text in UTF-8 after its length. */
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

/** What write puts, after its length: where that turns out to take more than one byte, the rest is moved on. */
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
  const head = varintBytes(length);
  makeRoom(head);
  sink.bytes.copyWithin(start + head, start + 1, sink.at);
  sink.at = start;
  putVarint(length);
  sink.at = start + head + length;
}

function varintBytes(value: number): number {
  return Math.ceil((32 - Math.clz32(value)) / 7);
}
