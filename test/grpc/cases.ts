import { once } from "node:events";
import { constants, type OutgoingHttpHeaders } from "node:http2";
import { gzipSync } from "node:zlib";
import type { DescMethodUnary, JsonValue } from "@bufbuild/protobuf";
import { Code, type ConnectError } from "@connectrpc/connect";
import { encodeEnvelope } from "@connectrpc/connect/protocol";
import { expect } from "vitest";
import { serviceOf } from "../gateway/fixture.ts";
import { type Ask, type Caller, callers, envelopeOf, type Outcome, openRaw, type RawCaller } from "./callers.ts";
import { largeAnswerBytes, maxBodyBytes, type TestServer } from "./doors.ts";

export interface Case {
  readonly says: string;
  readonly client: string;
  readonly run: (server: TestServer) => Promise<Outcome>;
  /** What Connect's adapter answers. */
  readonly expected: object;
  /** What the door is known to make of it. */
  readonly difference?: Difference;
  /** The door leaves it to the adapter. */
  readonly isLeft?: true;
}
type Difference = (adapter: Outcome) => Outcome;
type Run<Client> = (caller: Client, server: TestServer) => Promise<Outcome>;

/** By each of the clients. */
function by(says: string, run: Run<Caller>, expected: object, difference: Difference = same): Case[] {
  return Object.entries(callers).map(([client, open]) => ({
    says,
    client,
    expected,
    difference,
    run: (server) => withCaller(open, run, server),
  }));
}

/** By frames that no such client would write. */
function raw(says: string, run: Run<RawCaller>, expected: object, difference: Difference = same): Case[] {
  return [{ says, client: "frames", expected, difference, run: (server) => withCaller(openRaw, run, server) }];
}

function left(cases: Case[]): Case[] {
  return cases.map((one) => ({ ...one, isLeft: true }));
}

async function withCaller<Client extends Caller>(open: (url: string) => Client, run: Run<Client>, server: TestServer) {
  const caller = open(server.url);
  return run(caller, server).finally(caller.close);
}

const same: Difference = (adapter) => adapter;

/** Another code or text, where trailers repeat them too. */
function telling(difference: Partial<Pick<Outcome, "code" | "message">>): Difference {
  return (adapter) => {
    const told = { ...adapter, ...difference };
    if (!("grpc-status" in told.trailers)) return told;
    const wire = { "grpc-status": String(told.code), "grpc-message": encodeURIComponent(told.message) };
    return { ...told, trailers: { ...told.trailers, ...wire } };
  };
}

function say(request: JsonValue, ask?: Ask): Run<Caller> {
  return (caller) => caller.call(request, ask);
}

function send(frames: readonly Uint8Array[], headers?: OutgoingHttpHeaders): Run<RawCaller> {
  return (caller) => caller.send(frames, headers);
}

/** And whether the connection still serves. */
async function thenAfter(caller: Caller, outcome: Promise<Outcome>) {
  const before = await outcome;
  return { ...before, after: (await caller.call({ text: "after" })).answer };
}

const { single, unbound } = serviceOf("EchoService").method as Record<string, DescMethodUnary>;
const hello = { text: "hello", number: 7, names: { a: "ü" } };
const message = envelopeOf(hello);
const answered = { code: 0, message: "", answer: hello };
const filled = (bytes: number) => ({ data: Buffer.alloc(bytes).toString("base64") });
const protocolError = (code: Code, text: string) => ({ code, message: `protocol error: ${text}`, details: [] });
const extra = protocolError(Code.Unimplemented, "received extra input message for unary method");
const incomplete = protocolError(Code.InvalidArgument, "incomplete envelope");
const tooLarge = (size: number) => ({
  code: Code.ResourceExhausted,
  message: `message size ${size} is larger than configured readMaxBytes ${maxBodyBytes}`,
  after: { text: "after" },
});
const hints = { "x-asked": "yes", "x-many": ["a", "b"], "x-bytes-bin": "AP+A", "grpc-timeout": "1H" };
const seen = {
  texts: expect.arrayContaining(["te: trailers", "x-asked: yes", "x-many: a, b", "x-bytes-bin: AP+A"]),
  names: {
    method: "Single",
    service: "fixture.EchoService",
    verb: "POST",
    protocol: "grpc",
    timeout: "true",
    url: "http://127.0.0.1/fixture.EchoService/Single",
  },
};
const details = [
  {
    "@type": "type.googleapis.com/google.rpc.BadRequest",
    fieldViolations: [{ field: "text", description: "löchrig" }],
  },
  { "@type": "type.googleapis.com/google.rpc.RetryInfo", retryDelay: "3s" },
];

export const cases: readonly Case[] = [
  by("an answer", say(hello), answered),
  by("an empty message", say({}), { code: 0, answer: {} }),
  by("headers of the handler, repeated ones and bytes among them", say({ text: "headers" }), {
    answer: { text: "headers" },
    headers: { "content-type": "application/grpc+proto", "x-one": "1", "x-many": "a, b", "x-bytes-bin": "AP+A" },
  }),
  raw("cookies, each on its own", say({ text: "headers" }), { headers: { "set-cookie": ["c=1", "d=2"] } }),
  // src/call/context.ts does not tell whether there are any: the door leaves them out.
  by("trailers of the handler", say({ text: "trailers" }), { code: 0, trailers: { "x-last": "2" } }),
  by("what a handler sees of its call", say({ text: "context" }, { metadata: hints }), { answer: seen }),
  raw("a host that is named as in HTTP/1.1", send([envelopeOf({ text: "context" })], { host: "example.com" }), {
    answer: { names: { url: "http://example.com/fixture.EchoService/Single" } },
  }),
  by("an error with its text, its details and its metadata", say({ text: "fails" }), {
    code: Code.FailedPrecondition,
    message: "100 % naïve – 失败\n",
    details,
    trailers: { "x-why": "a, b", "x-bytes-bin": "AP+A" },
  }),
  raw("headers before an error", say({ text: "fails" }), { status: 200, headers: { "x-one": "1" }, body: "" }),
  by("a fault, of which nothing leaks", say({ text: "breaks" }), { code: Code.Internal, message: "internal error" }),
  by("an answer that is no message yet", say({ text: "plain" }), { code: 0, answer: { text: "made" } }),
  by("an answer that cannot be written", say({ text: "unwritable" }), {
    code: Code.Internal,
    message: expect.stringMatching(/^serialize binary: .*number.*1\.5/),
  }),

  by(
    "a deadline that passes while the handler works",
    async (caller, { handled }) => {
      const aborted = once(handled, "aborted");
      const outcome = await caller.call({ text: "waits" }, { metadata: { "grpc-timeout": "50m" } });
      return { ...outcome, reason: ((await aborted) as [ConnectError])[0].code };
    },
    { code: Code.DeadlineExceeded, message: "the operation timed out", reason: Code.DeadlineExceeded },
    // The words of src/call/context.ts.
    telling({ message: "the deadline has passed" }),
  ),
  by("a deadline beyond what a timer holds", say(hello, { metadata: { "grpc-timeout": "720H" } }), answered),
  left([
    ...by(
      "a deadline that is none",
      say(hello, { metadata: { "grpc-timeout": "soon" } }),
      protocolError(Code.InvalidArgument, "invalid grpc timeout value: soon"),
    ),
  ]),
  by(
    "a client that cancels: the handler is told, the connection goes on",
    async (caller, { handled }) => {
      const [working, aborted] = [once(handled, "working"), once(handled, "aborted")];
      const controller = new AbortController();
      const cancelled = caller.call({ text: "waits" }, { signal: controller.signal });
      await working;
      controller.abort();
      const [reason] = (await aborted) as [ConnectError];
      await cancelled;
      return { ...(await caller.call(hello)), reason: reason.code };
    },
    { ...answered, reason: Code.Canceled },
  ),
  raw(
    "a client that goes when its message is whole but not ended",
    async (caller, { handled }) => {
      const worked: unknown[] = [];
      const note = (text: unknown) => worked.push(text);
      handled.on("working", note);
      const stream = caller.open();
      await new Promise((done) => stream.write(envelopeOf({ text: "gone" }), done));
      stream.close(constants.NGHTTP2_CANCEL);
      const after = await caller.call(hello);
      handled.off("working", note);
      return { ...after, worked };
    },
    { ...answered, worked: ["gone", "hello"] },
  ),

  by(
    "a message that is larger than the limit",
    (caller) => thenAfter(caller, caller.call(filled(maxBodyBytes))),
    tooLarge(maxBodyBytes + 4),
  ),
  raw(
    "a message that says that it is larger than the limit, and does not come",
    (caller) => thenAfter(caller, caller.send([Uint8Array.of(0, 0, 1, 134, 161)], {}, false)),
    tooLarge(maxBodyBytes + 1),
  ),
  raw("a message of just the limit", send([envelopeOf(filled(maxBodyBytes - 4))]), { code: 0 }),
  raw("no message", send([]), protocolError(Code.Unimplemented, "missing input message for unary method")),
  raw("two messages", send([message, message]), extra),
  raw("two messages in one frame", send([Buffer.concat([message, message])]), extra),
  raw("an end within the head", send([message.subarray(0, 3)]), incomplete),
  raw("an end within the message", send([message.subarray(0, 9)]), incomplete),
  raw("an end within a second head", send([message, message.subarray(0, 3)]), incomplete),
  raw(
    "a compressed message without a word on how",
    send([envelopeOf(hello, 1)]),
    { code: Code.Internal, message: "received compressed envelope, but do not know how to decompress" },
    // The caller's mistake.
    telling({ code: Code.InvalidArgument }),
  ),
  raw("flags that mean nothing", send([envelopeOf(hello, 2)]), answered),
  raw("an encoding that is none", send([message], { "grpc-encoding": "identity" }), answered),
  raw(
    "bytes that are no message",
    send([encodeEnvelope(0, Uint8Array.of(10, 200))]),
    { code: Code.Internal, message: expect.stringMatching(/^parse binary: /) },
    // The one difference that is meant: it is the caller's doing, and Connect takes it for the server's.
    telling({ code: Code.InvalidArgument }),
  ),
  raw("a message byte by byte, its head too", send([...message].map((byte) => Uint8Array.of(byte))), answered),
  raw("a head in two frames", send([message.subarray(0, 2), message.subarray(2)]), answered),
  raw(
    "a large answer to a slow reader with a small window",
    (_caller, server) => withCaller((url) => openRaw(url, { initialWindowSize: 1000 }), say({ text: "large" }), server),
    { code: 0, answer: { data: Buffer.alloc(largeAnswerBytes, "0123456789").toString("base64") } },
  ),

  left([
    ...raw(
      "a compressed message",
      send([encodeEnvelope(1, gzipSync(message.subarray(5)))], { "grpc-encoding": "gzip" }),
      answered,
    ),
    ...raw("an encoding that nobody knows", send([message], { "grpc-encoding": "rot13" }), {
      code: Code.Unimplemented,
      trailers: { "grpc-accept-encoding": "gzip,br" },
    }),
    ...by("a method that does not exist", say(hello, { method: { ...single, name: "Nowhere" } as DescMethodUnary }), {
      code: Code.Unimplemented,
    }),
    ...by("a method that nobody implements", say(hello, { method: unbound as DescMethodUnary }), {
      code: Code.Unimplemented,
      message: "fixture.EchoService.Unbound is not implemented",
    }),
    ...raw("a path with a query", send([message], { ":path": "/fixture.EchoService/Single?a=b" }), answered),
    ...raw("GET", send([], { ":method": "GET" }), { status: 405, body: "" }),
    ...raw("HEAD", send([], { ":method": "HEAD" }), { status: 405, body: "" }),
    ...raw(
      "gRPC with JSON",
      send([encodeEnvelope(0, Buffer.from(JSON.stringify(hello)))], { "content-type": "application/grpc+json" }),
      { code: 0, headers: { "content-type": "application/grpc+json" }, body: expect.stringContaining('"hello"') },
    ),
    ...raw("gRPC-Web", send([message], { "content-type": "application/grpc-web+proto" }), {
      status: 200,
      body: expect.stringContaining("grpc-status: 0"),
    }),
    ...raw("another content type", send([message], { "content-type": "text/plain" }), { status: 415, body: "" }),
  ]),
].flat();
