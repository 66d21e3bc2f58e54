import { once } from "node:events";
import { constants, type OutgoingHttpHeaders } from "node:http2";
import { gzipSync } from "node:zlib";
import type { DescMethodUnary, JsonValue } from "@bufbuild/protobuf";
import { Code, type ConnectError } from "@connectrpc/connect";
import { encodeEnvelope } from "@connectrpc/connect/protocol";
import { expect } from "vitest";
import { serviceOf } from "../gateway/fixture.ts";
import {
  type Caller,
  type CallOptions,
  callers,
  envelopeOf,
  type Outcome,
  openRaw,
  type RawCaller,
} from "./callers.ts";
import { largeResponseBytes, maxBodyBytes, type TestServer } from "./servers.ts";

export interface Case {
  readonly name: string;
  readonly client: string;
  readonly run: (server: TestServer) => Promise<Outcome>;
  /** The outcome with Connect's adapter. */
  readonly expected: object;
  /** Converts the adapter's outcome into the one of our server. */
  readonly toOurs?: ToOurs;
  /** The adapter serves the call, not the gRPC server. */
  readonly isLeftAlone?: true;
}
type ToOurs = (adapter: Outcome) => Outcome;
type Run<Client> = (caller: Client, server: TestServer) => Promise<Outcome>;

/** A case for each client. */
function withEachClient(name: string, run: Run<Caller>, expected: object, toOurs: ToOurs = same): Case[] {
  return Object.entries(callers).map(([client, open]) => ({
    name,
    client,
    expected,
    toOurs,
    run: (server) => withCaller(open, run, server),
  }));
}

/** A case of frames that no client library sends. */
function withFrames(name: string, run: Run<RawCaller>, expected: object, toOurs: ToOurs = same): Case[] {
  return [{ name, client: "frames", expected, toOurs, run: (server) => withCaller(openRaw, run, server) }];
}

function servedByAdapter(cases: Case[]): Case[] {
  return cases.map((each) => ({ ...each, isLeftAlone: true }));
}

async function withCaller<Client extends Caller>(open: (url: string) => Client, run: Run<Client>, server: TestServer) {
  const caller = open(server.url);
  return run(caller, server).finally(caller.close);
}

const same: ToOurs = (adapter) => adapter;

/** Replaces the code or the message, in raw trailers too. */
function replacing(difference: Partial<Pick<Outcome, "code" | "message">>): ToOurs {
  return (adapter) => {
    const ours = { ...adapter, ...difference };
    if (!("grpc-status" in ours.trailers)) return ours;
    const wire = { "grpc-status": String(ours.code), "grpc-message": encodeURIComponent(ours.message) };
    return { ...ours, trailers: { ...ours.trailers, ...wire } };
  };
}

function callWith(request: JsonValue, options?: CallOptions): Run<Caller> {
  return (caller) => caller.call(request, options);
}

function send(frames: readonly Uint8Array[], headers?: OutgoingHttpHeaders): Run<RawCaller> {
  return (caller) => caller.send(frames, headers);
}

/** Adds the output of another call on the same connection. */
async function withNextCall(caller: Caller, outcome: Promise<Outcome>) {
  const before = await outcome;
  return { ...before, after: (await caller.call({ text: "after" })).output };
}

const { single, unbound } = serviceOf("EchoService").method as Record<string, DescMethodUnary>;
const hello = { text: "hello", number: 7, names: { a: "ü" } };
const message = envelopeOf(hello);
const succeeded = { code: 0, message: "", output: hello };
const filled = (bytes: number) => ({ data: Buffer.alloc(bytes).toString("base64") });
const protocolError = (code: Code, text: string) => ({ code, message: `protocol error: ${text}`, details: [] });
const extra = protocolError(Code.Unimplemented, "received extra input message for unary method");
const incomplete = protocolError(Code.InvalidArgument, "incomplete envelope");
const tooLarge = (size: number) => ({
  code: Code.ResourceExhausted,
  message: `message size ${size} is larger than configured readMaxBytes ${maxBodyBytes}`,
  after: { text: "after" },
});
const metadata = { "x-asked": "yes", "x-many": ["a", "b"], "x-bytes-bin": "AP+A", "grpc-timeout": "1H" };
const contextSeen = {
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
  withEachClient("a call", callWith(hello), succeeded),
  withEachClient("an empty message", callWith({}), { code: 0, output: {} }),
  withEachClient("headers of the handler, including repeated and binary ones", callWith({ text: "headers" }), {
    output: { text: "headers" },
    headers: { "content-type": "application/grpc+proto", "x-one": "1", "x-many": "a, b", "x-bytes-bin": "AP+A" },
  }),
  withFrames("cookies as separate headers", callWith({ text: "headers" }), {
    headers: { "set-cookie": ["c=1", "d=2"] },
  }),
  withEachClient("trailers of the handler", callWith({ text: "trailers" }), { code: 0, trailers: { "x-last": "2" } }),
  withEachClient("the context that a handler sees", callWith({ text: "context" }, { metadata }), {
    output: contextSeen,
  }),
  withFrames("a Host header instead of :authority", send([envelopeOf({ text: "context" })], { host: "example.com" }), {
    output: { names: { url: "http://example.com/fixture.EchoService/Single" } },
  }),
  withEachClient("an error with message, details and metadata", callWith({ text: "fails" }), {
    code: Code.FailedPrecondition,
    message: "100 % naïve – 失败\n",
    details,
    trailers: { "x-why": "a, b", "x-bytes-bin": "AP+A" },
  }),
  withFrames("headers before an error", callWith({ text: "fails" }), {
    status: 200,
    headers: { "x-one": "1" },
    body: "",
  }),
  withEachClient("an unexpected error, without leaking its text", callWith({ text: "breaks" }), {
    code: Code.Internal,
    message: "internal error",
  }),
  withEachClient("a plain object as response", callWith({ text: "plain" }), { code: 0, output: { text: "created" } }),
  withEachClient("a response that cannot be encoded", callWith({ text: "unwritable" }), {
    code: Code.Internal,
    message: expect.stringMatching(/^serialize binary: .*number.*1\.5/),
  }),

  withEachClient(
    "a deadline that passes while the handler works",
    async (caller, { handlerEvents }) => {
      const aborted = once(handlerEvents, "aborted");
      const outcome = await caller.call({ text: "waits" }, { metadata: { "grpc-timeout": "50m" } });
      return { ...outcome, reason: ((await aborted) as [ConnectError])[0].code };
    },
    { code: Code.DeadlineExceeded, message: "the operation timed out", reason: Code.DeadlineExceeded },
    // The text of src/call/context.ts.
    replacing({ message: "the deadline has passed" }),
  ),
  withEachClient(
    "a deadline longer than the longest timer",
    callWith(hello, { metadata: { "grpc-timeout": "720H" } }),
    succeeded,
  ),
  servedByAdapter([
    ...withEachClient(
      "an invalid deadline",
      callWith(hello, { metadata: { "grpc-timeout": "soon" } }),
      protocolError(Code.InvalidArgument, "invalid grpc timeout value: soon"),
    ),
  ]),
  withEachClient(
    "a cancellation, which aborts the handler and keeps the connection",
    async (caller, { handlerEvents }) => {
      const [working, aborted] = [once(handlerEvents, "working"), once(handlerEvents, "aborted")];
      const controller = new AbortController();
      const canceled = caller.call({ text: "waits" }, { signal: controller.signal });
      await working;
      controller.abort();
      const [reason] = (await aborted) as [ConnectError];
      await canceled;
      return { ...(await caller.call(hello)), reason: reason.code };
    },
    { ...succeeded, reason: Code.Canceled },
  ),
  withFrames(
    "a client that leaves after its whole message, without ending the stream",
    async (caller, { handlerEvents }) => {
      const handledTexts: unknown[] = [];
      const collect = (text: unknown) => handledTexts.push(text);
      handlerEvents.on("working", collect);
      const stream = caller.open();
      await new Promise((done) => stream.write(envelopeOf({ text: "gone" }), done));
      stream.close(constants.NGHTTP2_CANCEL);
      const after = await caller.call(hello);
      handlerEvents.off("working", collect);
      return { ...after, handledTexts };
    },
    { ...succeeded, handledTexts: ["gone", "hello"] },
  ),

  withEachClient(
    "a message larger than the limit",
    (caller) => withNextCall(caller, caller.call(filled(maxBodyBytes))),
    tooLarge(maxBodyBytes + 4),
  ),
  withFrames(
    "a prefix that announces a message larger than the limit, without the message",
    (caller) => withNextCall(caller, caller.send([Uint8Array.of(0, 0, 1, 134, 161)], {}, false)),
    tooLarge(maxBodyBytes + 1),
  ),
  withFrames("a message of exactly the limit", send([envelopeOf(filled(maxBodyBytes - 4))]), { code: 0 }),
  withFrames("no message", send([]), protocolError(Code.Unimplemented, "missing input message for unary method")),
  withFrames("two messages", send([message, message]), extra),
  withFrames("two messages in one frame", send([Buffer.concat([message, message])]), extra),
  withFrames("an end within the prefix", send([message.subarray(0, 3)]), incomplete),
  withFrames("an end within the message", send([message.subarray(0, 9)]), incomplete),
  withFrames("an end within a second prefix", send([message, message.subarray(0, 3)]), incomplete),
  withFrames(
    "a compressed message without grpc-encoding",
    send([envelopeOf(hello, 1)]),
    { code: Code.Internal, message: "received compressed envelope, but do not know how to decompress" },
    // The caller's mistake, which Connect reports as the server's.
    replacing({ code: Code.InvalidArgument }),
  ),
  withFrames("unknown flags", send([envelopeOf(hello, 2)]), succeeded),
  withFrames("the identity encoding", send([message], { "grpc-encoding": "identity" }), succeeded),
  withFrames(
    "bytes that are not a message",
    send([encodeEnvelope(0, Uint8Array.of(10, 200))]),
    { code: Code.Internal, message: expect.stringMatching(/^parse binary: /) },
    // An intended difference: the caller's mistake, which Connect reports as the server's.
    replacing({ code: Code.InvalidArgument }),
  ),
  withFrames(
    "a message byte by byte, including its prefix",
    send([...message].map((byte) => Uint8Array.of(byte))),
    succeeded,
  ),
  withFrames("a prefix in two frames", send([message.subarray(0, 2), message.subarray(2)]), succeeded),
  withFrames(
    "a large response to a slow reader with a small window",
    (_caller, server) =>
      withCaller((url) => openRaw(url, { initialWindowSize: 1000 }), callWith({ text: "large" }), server),
    { code: 0, output: { data: Buffer.alloc(largeResponseBytes, "0123456789").toString("base64") } },
  ),

  servedByAdapter([
    ...withFrames(
      "a compressed message",
      send([encodeEnvelope(1, gzipSync(message.subarray(5)))], { "grpc-encoding": "gzip" }),
      succeeded,
    ),
    ...withFrames("an unknown encoding", send([message], { "grpc-encoding": "rot13" }), {
      code: Code.Unimplemented,
      trailers: { "grpc-accept-encoding": "gzip,br" },
    }),
    ...withEachClient(
      "a method that does not exist",
      callWith(hello, { method: { ...single, name: "Nowhere" } as DescMethodUnary }),
      {
        code: Code.Unimplemented,
      },
    ),
    ...withEachClient("a method without an implementation", callWith(hello, { method: unbound as DescMethodUnary }), {
      code: Code.Unimplemented,
      message: "fixture.EchoService.Unbound is not implemented",
    }),
    ...withFrames("a path with a query", send([message], { ":path": "/fixture.EchoService/Single?a=b" }), succeeded),
    ...withFrames("GET", send([], { ":method": "GET" }), { status: 405, body: "" }),
    ...withFrames("HEAD", send([], { ":method": "HEAD" }), { status: 405, body: "" }),
    ...withFrames(
      "gRPC with JSON",
      send([encodeEnvelope(0, Buffer.from(JSON.stringify(hello)))], { "content-type": "application/grpc+json" }),
      { code: 0, headers: { "content-type": "application/grpc+json" }, body: expect.stringContaining('"hello"') },
    ),
    ...withFrames("gRPC-Web", send([message], { "content-type": "application/grpc-web+proto" }), {
      status: 200,
      body: expect.stringContaining("grpc-status: 0"),
    }),
    ...withFrames("another content type", send([message], { "content-type": "text/plain" }), { status: 415, body: "" }),
  ]),
].flat();
