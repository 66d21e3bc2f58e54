/**
 * The part of HTTP/2 (RFC 9113) that a load of gRPC calls needs: Node's own client spends more time on a call
 * than the servers that are measured, and shares its core with Redis and PostgreSQL. Headers of answers are not read:
 * a unary call that was answered without a message has failed. It keeps to no window of its peer's: what a load has under
 * way at once is less than any.
 */
import { once } from "node:events";
import { connect, type Socket } from "node:net";

export interface GrpcConnection {
  /** @returns the message of the answer */
  unary(path: string, message: Uint8Array): Promise<Buffer>;
  /** @param onData receives the bytes of the answer as they arrive, including envelopes */
  stream(path: string, onData: (data: Buffer) => void): GrpcStream;
}

export interface GrpcStream {
  /** @param envelopes messages, each in its own envelope */
  write(envelopes: Uint8Array): void;
  end(): void;
  /** Resolves at the end of the answer. */
  readonly ended: Promise<void>;
}

const frames = { data: 0, headers: 1, reset: 3, settings: 4, ping: 6, goAway: 7, windowUpdate: 8 };
const endStream = 0x1;
const acknowledged = 0x1;
const endHeaders = 0x4;
const headBytes = 9;
const largestWindow = 0x7fffffff;
const firstWindow = 65_535;

interface Open {
  readonly onData: (data: Buffer) => void;
  readonly done: () => void;
  readonly fail: (error: Error) => void;
}

export async function openGrpc(url: string, token: string): Promise<GrpcConnection> {
  const { hostname, port, host } = new URL(url);
  const socket = connect({ host: hostname, port: Number(port), noDelay: true });
  await once(socket, "connect");
  const open = new Map<number, Open>();
  const blocks = new Map<string, Buffer>();
  let nextId = 1;
  socket.write("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
  socket.write(frame(frames.settings, 0, 0, Buffer.from([0, 4, ...bytesOf(largestWindow)])));
  socket.write(frame(frames.windowUpdate, 0, 0, Buffer.from(bytesOf(largestWindow - firstWindow))));
  readFrames(socket, open);

  /** All frames of one turn of the event loop leave in one write. */
  function send(...parts: Buffer[]): void {
    if (socket.writableCorked === 0) {
      socket.cork();
      setImmediate(() => socket.uncork());
    }
    for (const part of parts) socket.write(part);
  }

  function start(path: string, call: Open): number {
    const id = nextId;
    nextId += 2;
    open.set(id, call);
    const block = blocks.get(path) ?? headerBlock({ path, host, token });
    blocks.set(path, block);
    send(frame(frames.headers, endHeaders, id, block));
    return id;
  }

  return {
    unary: (path, message) =>
      new Promise((resolve, reject) => {
        const chunks: Buffer[] = [];
        const done = () => {
          if (chunks.length === 0) reject(new Error(`${path} was refused`));
          else resolve(Buffer.concat(chunks).subarray(5));
        };
        const id = start(path, { onData: (chunk) => chunks.push(chunk), done, fail: reject });
        const head = Buffer.alloc(5);
        head.writeUInt32BE(message.length, 1);
        send(frame(frames.data, endStream, id, Buffer.concat([head, message])));
      }),
    stream(path, onData) {
      let [done, fail]: [() => void, (error: Error) => void] = [() => undefined, () => undefined];
      const ended = new Promise<void>((resolve, reject) => {
        [done, fail] = [resolve, reject];
      });
      const id = start(path, { onData, done, fail });
      return {
        write: (envelopes) => send(frame(frames.data, 0, id, envelopes)),
        end: () => send(frame(frames.data, endStream, id, Buffer.alloc(0))),
        ended,
      };
    },
  };
}

function readFrames(socket: Socket, open: Map<number, Open>): void {
  let rest: Buffer = Buffer.alloc(0);
  const failAll = (error: Error) => {
    for (const call of open.values()) call.fail(error);
    open.clear();
  };
  socket.on("error", failAll);
  socket.on("close", () => failAll(new Error("the connection was closed")));
  socket.on("data", (chunk: Buffer) => {
    rest = rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
    let at = 0;
    while (rest.length >= at + headBytes) {
      const length = rest.readUIntBE(at, 3);
      if (rest.length < at + headBytes + length) break;
      const payload = rest.subarray(at + headBytes, at + headBytes + length);
      take(rest[at + 3] as number, rest[at + 4] as number, rest.readUInt32BE(at + 5), payload);
      at += headBytes + length;
    }
    rest = rest.subarray(at);
  });

  function take(type: number, flags: number, id: number, payload: Buffer): void {
    const call = open.get(id);
    const isFirst = (flags & acknowledged) === 0;
    if (type === frames.settings && isFirst) socket.write(frame(frames.settings, acknowledged, 0, Buffer.alloc(0)));
    else if (type === frames.ping && isFirst) socket.write(frame(frames.ping, acknowledged, 0, payload));
    else if (type === frames.goAway) failAll(new Error("the server goes away"));
    else if (type === frames.reset) settle(id, () => call?.fail(new Error(`reset with ${payload.readUInt32BE(0)}`)));
    else if (type === frames.data || type === frames.headers) {
      if (type === frames.data && payload.length > 0) call?.onData(payload);
      if ((flags & endStream) !== 0) settle(id, () => call?.done());
    }
  }

  function settle(id: number, tell: () => void): void {
    open.delete(id);
    tell();
  }
}

function frame(type: number, flags: number, id: number, payload: Uint8Array): Buffer {
  const made = Buffer.allocUnsafe(headBytes + payload.length);
  made.writeUIntBE(payload.length, 0, 3);
  made[3] = type;
  made[4] = flags;
  made.writeUInt32BE(id, 5);
  made.set(payload, headBytes);
  return made;
}

function bytesOf(value: number): number[] {
  return [value >>> 24, (value >>> 16) & 0xff, (value >>> 8) & 0xff, value & 0xff];
}

/** HPACK (RFC 7541) without its tables: every field is literal, so that the block is the same for every call. */
function headerBlock({ path, host, token }: { path: string; host: string; token: string }): Buffer {
  const fields = {
    ":method": "POST",
    ":scheme": "http",
    ":path": path,
    ":authority": host,
    "content-type": "application/grpc",
    te: "trailers",
    authorization: `Bearer ${token}`,
  };
  return Buffer.concat(
    Object.entries(fields).flatMap(([name, value]) => [Buffer.from([0]), literal(name), literal(value)]),
  );
}

function literal(text: string): Buffer {
  const bytes = Buffer.from(text);
  if (bytes.length < 127) return Buffer.concat([Buffer.from([bytes.length]), bytes]);
  const length = [127];
  let left = bytes.length - 127;
  for (; left > 127; left >>>= 7) length.push((left & 127) | 128);
  return Buffer.concat([Buffer.from([...length, left]), bytes]);
}
