import { type ClientHttp2Session, connect } from "node:http2";
import type { Socket } from "node:net";
import { afterAll, beforeAll, expect, test } from "vitest";
import {
  flags,
  frame,
  headerBlock,
  indexedHeader,
  openFrames,
  requestHeaders,
  streamIds,
  tableEntry,
  writeAll,
} from "../support/frames.ts";
import { getHttp2, openListener, stopAll } from "../support/listener.ts";

/**
 * Floods of frames that cost the sender little (CVE-2019-9511 to 9518, 2023-44487, 2024-27983, 2025-8671). The comment of a row
 * names its guard. Rows of our own guards stay open without them; the others are Node's, and have no switch.
 */
interface Flood {
  readonly says: string;
  /** The frames that open the attack. */
  readonly head?: Buffer;
  /** Returns a part of the flood. `part` counts from 0. */
  readonly piece: (part: number) => Buffer;
}

const maxBytes = 200_000_000;
const headroomBytes = 100_000_000;
const get = requestHeaders("/", "text/plain", "GET");
const hold = requestHeaders("/hold", "text/plain");
const cancel = uint32(8);

/** Frames of a hundred new streams. */
function calls(part: number, make: (stream: number) => readonly Buffer[]): Buffer {
  return Buffer.concat(streamIds(100).flatMap((id) => make(id + part * 200 + 2)));
}

function many(bytes: Buffer): Buffer {
  return Buffer.concat(Array.from({ length: 2_000 }, () => bytes));
}

const openStream = frame("headers", flags.endHeaders, 1, hold);
const openHeaders = frame("headers", 0, 1, get);
/** Refers 16,000 times to a table entry of 4,000 bytes: 64 MB. */
const bomb = Buffer.concat([get, Buffer.alloc(16_000, indexedHeader)]);
const large = Buffer.concat([get, ...Array.from({ length: 160 }, () => headerBlock({ "x-a": "b".repeat(90) }))]);

const floods: Flood[] = [
  // Node stops reading after 1,000 resets, and our limit of silence closes the connection.
  {
    says: "calls that are reset at once",
    piece: (part) =>
      calls(part, (id) => [
        frame("headers", flags.endStream | flags.endHeaders, id, get),
        frame("rstStream", 0, id, cancel),
      ]),
  },
  // Node, at the first WINDOW_UPDATE of 0.
  {
    says: "calls that make the server reset them",
    piece: (part) =>
      calls(part, (id) => [frame("headers", flags.endHeaders, id, hold), frame("windowUpdate", 0, id, uint32(0))]),
  },
  // Node stops reading, and our limit of silence closes the connection, although its calls are open.
  {
    says: "DATA after the end of a call",
    piece: (part) =>
      calls(part, (id) => [
        frame("headers", flags.endStream | flags.endHeaders, id, hold),
        frame("data", 0, id, Buffer.of(1)),
      ]),
  },
  // Node: at most eight CONTINUATION frames.
  { says: "empty CONTINUATION frames", head: openHeaders, piece: () => many(frame("continuation", 0, 1)) },
  {
    says: "CONTINUATION frames with headers",
    head: openHeaders,
    piece: () => many(frame("continuation", 0, 1, headerBlock({ "x-a": "b" }))),
  },
  // Node: at most 1,000 answers that wait to be sent.
  { says: "SETTINGS", piece: () => many(frame("settings", 0, 0)) },
  { says: "PING", piece: () => many(frame("ping", 0, 0, Buffer.alloc(8))) },
  // Node: at most 1,000 invalid frames.
  { says: "DATA frames without data", head: openStream, piece: () => many(frame("data", 0, 1)) },
  // Ours when the sender reads; otherwise Node: at most 1,000 answers that wait to be sent.
  {
    says: "an HPACK bomb",
    head: frame("headers", flags.endStream | flags.endHeaders, 1, Buffer.concat([get, tableEntry(4_000)])),
    piece: (part) => calls(part, (id) => [frame("headers", flags.endStream | flags.endHeaders, id, bomb)]),
  },
  // The rest is ours: bytes that are neither calls nor bodies.
  {
    says: "header blocks that are too large",
    piece: (part) => calls(part, (id) => [frame("headers", flags.endStream | flags.endHeaders, id, large)]),
  },
  {
    says: "DATA frames with padding only",
    head: openStream,
    piece: () => many(frame("data", flags.padded, 1, Buffer.of(3, 0, 0, 0))),
  },
  { says: "WINDOW_UPDATE of the connection", piece: () => many(frame("windowUpdate", 0, 0, uint32(1))) },
  {
    says: "WINDOW_UPDATE of a call",
    head: openStream,
    piece: () => many(frame("windowUpdate", 0, 1, uint32(1))),
  },
  {
    says: "PRIORITY of calls that do not exist",
    piece: (part) => calls(part, (id) => Array.from({ length: 20 }, () => frame("priority", 0, id, priority))),
  },
  { says: "frames of an unknown type", piece: () => many(frame("unknown", 0, 0)) },
  {
    says: "trailers that repeat",
    head: openStream,
    piece: () => many(frame("headers", flags.endHeaders, 1, headerBlock({ "x-a": "b" }))),
  },
];

/** Depends on no stream, with the weight 1. */
const priority = Buffer.of(0, 0, 0, 0, 1);

let port: number;
let other: ClientHttp2Session;

beforeAll(async () => {
  const limits = { headersTimeoutMs: 200, silenceTimeoutMs: 500, sessionIdleTimeoutMs: 60_000 };
  ({ port } = await openListener({ limits }));
  other = connect(`http://127.0.0.1:${port}`);
  await getHttp2(other, "/");
});
afterAll(() => {
  other.destroy();
  return stopAll();
});

test.each(floods.flatMap((flood) => [true, false].map((reads) => ({ ...flood, reads }))))(
  "$says (the sender reads: $reads) end the connection, and others are served",
  async ({ head = Buffer.alloc(0), piece, reads }) => {
    const memoryBefore = process.memoryUsage().rss;
    const socket = openFrames(port);
    const closed = new Promise((done) => socket.once("close", done));
    if (!reads) socket.pause();
    const flood = send(socket, head, piece);
    // The response arrives while the flood goes on.
    expect(await getHttp2(other, "/other")).toBe("HTTP/2.0 /other");
    expect(await flood).toBeLessThan(maxBytes);
    // A socket that is not read does not notice its end.
    socket.resume();
    await closed;
    expect(process.memoryUsage().rss - memoryBefore).toBeLessThan(headroomBytes);
    expect(await getHttp2(other, "/other")).toBe("HTTP/2.0 /other");
  },
);

test("a client that answers PING keeps a connection with a silent call", async () => {
  const { port: ownPort, held } = await openListener({ limits: { silenceTimeoutMs: 200 } });
  const session = connect(`http://127.0.0.1:${ownPort}`);
  const answer = getHttp2(session, "/hold");
  const response = await held();
  let pings = 0;
  await new Promise<void>((done) => session.on("ping", () => (pings += 1) === 5 && done()));
  response.end("late");
  expect(await answer).toBe("late");
  session.destroy();
});

test("a client that answers no PING loses its connection, although a call is open", async () => {
  const { port: ownPort, held } = await openListener({ limits: { silenceTimeoutMs: 200 } });
  const socket = openFrames(ownPort);
  const closed = new Promise((done) => socket.once("close", done));
  socket.write(openStream);
  await held();
  await closed;
  expect(socket.destroyed).toBe(true);
});

/** Sends until the connection has ended, or takes no more bytes, or the limit is reached. Returns the bytes sent. */
async function send(socket: Socket, head: Buffer, piece: Flood["piece"]): Promise<number> {
  let bytes = head.length;
  let isOpen = await writeAll(socket, head);
  for (let part = 0; isOpen && bytes < maxBytes; part += 1) {
    const next = piece(part);
    bytes += next.length;
    isOpen = await writeAll(socket, next);
  }
  return bytes;
}

function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}
