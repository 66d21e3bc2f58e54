import { connect, type Socket } from "node:net";

/** HTTP/2 by hand: frames that no client library would send. */

const preface = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
const types = {
  data: 0,
  headers: 1,
  priority: 2,
  rstStream: 3,
  settings: 4,
  ping: 6,
  windowUpdate: 8,
  continuation: 9,
  unknown: 0x77,
} as const;
export const flags = { endStream: 1, endHeaders: 4, padded: 8 } as const;
const initialWindowSize = 4;
const headBytes = 9;

export function frame(
  type: keyof typeof types,
  flag: number,
  stream: number,
  payload: Buffer = Buffer.alloc(0),
): Buffer {
  const head = Buffer.alloc(headBytes);
  head.writeUIntBE(payload.length, 0, 3);
  head.writeUInt8(types[type], 3);
  head.writeUInt8(flag, 4);
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, payload]);
}

/** A header block of literals that enter no table (RFC 7541, 6.2.2). Names and values are at most 126 bytes long. */
export function headerBlock(headers: Readonly<Record<string, string>>): Buffer {
  const text = (value: string) => Buffer.concat([Buffer.of(value.length), Buffer.from(value)]);
  return Buffer.concat(
    Object.entries(headers).map(([name, value]) => Buffer.concat([Buffer.of(0), text(name), text(value)])),
  );
}

/** A literal that enters the table of the connection as its newest entry (RFC 7541, 6.2.1), with a value of this length. */
export function tableEntry(length: number): Buffer {
  return Buffer.concat([Buffer.of(0x40, 1), Buffer.from("a"), prefixedInteger(length), Buffer.alloc(length, "v")]);
}

/** A reference to the newest entry of the table (RFC 7541, 6.1). */
export const indexedHeader = 0x80 | 62;

/** An integer with a prefix of seven bits (RFC 7541, 5.1). */
function prefixedInteger(value: number): Buffer {
  if (value < 127) return Buffer.of(value);
  const bytes = [127];
  let rest = value - 127;
  for (; rest >= 128; rest = Math.floor(rest / 128)) bytes.push((rest % 128) | 128);
  return Buffer.from([...bytes, rest]);
}

export function requestHeaders(path: string, contentType: string, method = "POST"): Buffer {
  const pseudo = { ":method": method, ":scheme": "http", ":authority": "x", ":path": path };
  return headerBlock({ ...pseudo, "content-type": contentType, te: "trailers" });
}

/** Opens an HTTP/2 connection and sends its preface and settings. Errors are left to "close". */
export function openFrames(port: number, { window = 65_535 }: { readonly window?: number } = {}): Socket {
  const socket = connect(port, "127.0.0.1").setNoDelay();
  socket.on("error", () => undefined).resume();
  const settings = Buffer.alloc(6);
  settings.writeUInt16BE(initialWindowSize, 0);
  settings.writeUInt32BE(window, 2);
  socket.write(Buffer.concat([preface, frame("settings", 0, 0, settings)]));
  return socket;
}

/** Returns the ids of the streams that the server has reset so far. The set grows as frames arrive. */
export function trackResets(socket: Socket): ReadonlySet<number> {
  const reset = new Set<number>();
  let rest = Buffer.alloc(0);
  socket.on("data", (chunk: Buffer) => {
    rest = Buffer.concat([rest, chunk]);
    while (rest.length >= headBytes && rest.length >= headBytes + rest.readUIntBE(0, 3)) {
      if (rest.readUInt8(3) === types.rstStream) reset.add(rest.readUInt32BE(5));
      rest = rest.subarray(headBytes + rest.readUIntBE(0, 3));
    }
  });
  return reset;
}

/** The ids of a client's first streams. */
export function streamIds(count: number): number[] {
  return Array.from({ length: count }, (_, index) => 2 * index + 1);
}

/** Writes and waits until the kernel has accepted the bytes. Returns false when the connection is closed. */
export async function writeAll(socket: Socket, bytes: Buffer): Promise<boolean> {
  if (socket.destroyed || !socket.writable) return false;
  await new Promise<void>((done) => {
    const settle = () => {
      socket.off("close", settle);
      done();
    };
    socket.once("close", settle);
    socket.write(bytes, settle);
  });
  return !socket.destroyed;
}
