import { once } from "node:events";
import { Code, ConnectError, createContextValues } from "@connectrpc/connect";
import { encodeEnvelope } from "@connectrpc/connect/protocol";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { untilInterrupted } from "../../src/call/context.ts";
import type { GrpcServerOptions } from "../../src/grpc/server.ts";
import { envelopeOf, type Outcome, openRaw, type RawCaller } from "./callers.ts";
import { cases } from "./cases.ts";
import { maxBodyBytes, startAdapter, startGrpcServer, type TestServer, valueKey } from "./doors.ts";

describe("as Connect's adapter does it", () => {
  let adapter: TestServer;
  let door: TestServer;
  beforeAll(async () => {
    [adapter, door] = await Promise.all([startAdapter(), startGrpcServer()]);
  });
  afterAll(() => [adapter, door].forEach((server) => server.stop()));

  test.each(cases)("$says ($client)", async ({ run, expected, difference, isLeft }) => {
    const theirs = await run(adapter);
    expect(theirs).toMatchObject(expected);
    const before = door.taken();
    expect(withoutReason(await run(door))).toEqual(difference?.(theirs));
    expect(door.taken() > before).toBe(isLeft === undefined);
  });
});

/** The reason that the server gives its own errors, which the adapter does not. */
function withoutReason(outcome: Outcome): Outcome {
  const { "grpc-status-details-bin": _packed, ...trailers } = outcome.trailers;
  const details = outcome.details.filter((detail) => !JSON.stringify(detail).includes("google.rpc.ErrorInfo"));
  return details.length === outcome.details.length ? outcome : { ...outcome, details, trailers };
}

describe("beside what the adapter does", () => {
  const hello = envelopeOf({ text: "hello" });
  const start3Bytes = [hello.subarray(0, 3)];
  const refused: unknown[] = [];
  let server: TestServer;
  let caller: RawCaller;
  let worked: string[];

  async function start(options: Partial<GrpcServerOptions> = {}): Promise<void> {
    server = await startGrpcServer({ refuse, ...options });
    caller = openRaw(server.url);
    worked = [];
    server.handled.on("working", (text: string) => worked.push(text));
  }
  function refuse(_context: unknown, error: unknown): ConnectError {
    refused.push(error);
    return new ConnectError("refused", Code.DataLoss);
  }
  afterEach(() => {
    refused.length = 0;
    caller.close();
    server.stop();
  });

  test("refuses whom it does not admit before the message is there", async () => {
    const forbidden = new ConnectError("not you", Code.PermissionDenied, { "x-why": "a" });
    await start({ admit: () => Promise.reject(forbidden) });
    const outcome = await caller.send(start3Bytes, {}, false);
    expect(outcome).toMatchObject({
      status: 200,
      code: forbidden.code,
      message: "not you",
      trailers: { "x-why": "a" },
    });
    expect([refused, worked]).toEqual([[], []]);
  });

  test("reads the message after it has admitted the caller", async () => {
    const steps: string[] = [];
    await start({
      async admit({ method }) {
        // The whole message is there by now.
        await caller.send([hello], { ":path": "/fixture.EchoService/Nowhere" });
        steps.push(`admitted to ${method.name}`, ...worked);
      },
    });
    expect(await caller.send([hello])).toMatchObject({ code: 0, answer: { text: "hello" } });
    expect([steps, worked]).toEqual([["admitted to Single"], ["hello"]]);
  });

  test("does not wait for a message longer than it may take", async () => {
    await start({ bodyTimeoutMs: 20 });
    await caller.send(start3Bytes, {}, false);
    expect(refused).toMatchObject([{ code: Code.DeadlineExceeded, rawMessage: "the body did not come within 20 ms" }]);
    expect(worked).toEqual([]);
  });

  test("does not wait for a message longer than the caller does", async () => {
    await start({});
    const outcome = await caller.send(start3Bytes, { "grpc-timeout": "20m" }, false);
    expect(outcome).toMatchObject({ code: Code.DataLoss, message: "refused" });
    expect(refused).toMatchObject([{ code: Code.DeadlineExceeded, rawMessage: "the deadline has passed" }]);
    expect(worked).toEqual([]);
  });

  test("tells whom to admit until when, and adds no words of its own", async () => {
    await start({ admit: (context) => untilInterrupted(context, new Promise(() => undefined)) });
    const outcome = await caller.send(start3Bytes, { "grpc-timeout": "20m" }, false);
    expect(outcome).toMatchObject({ code: Code.DeadlineExceeded, message: "the deadline has passed" });
    expect([refused, worked]).toEqual([[], []]);
  });

  test.each<[string, Uint8Array[], Code]>([
    ["half a message", start3Bytes, Code.InvalidArgument],
    ["no message", [], Code.Unimplemented],
    ["two messages", [hello, hello], Code.Unimplemented],
    ["a message that is too large", [encodeEnvelope(0, Buffer.alloc(maxBodyBytes + 1))], Code.ResourceExhausted],
    ["bytes that are no message", [encodeEnvelope(0, Uint8Array.of(10, 200))], Code.InvalidArgument],
    ["an answer that cannot be written", [envelopeOf({ text: "unwritable" })], Code.Internal],
  ])("lets its owner word the refusal of %s", async (_what, frames, code) => {
    await start();
    expect(await caller.send(frames)).toMatchObject({ code: Code.DataLoss, message: "refused" });
    expect(refused).toMatchObject([{ code }]);
  });

  test.each([
    ["fails", Code.FailedPrecondition],
    ["breaks", Code.Internal],
  ])("passes on what a handler that %s says", async (text, code) => {
    await start();
    expect(await caller.call({ text })).toMatchObject({ code });
    expect([refused, worked]).toEqual([[], [text]]);
  });

  test("keeps no timer of a deadline once the call has its answer", async () => {
    await start();
    const timers = () => process.getActiveResourcesInfo().filter((name) => name === "Timeout").length;
    await caller.call({ text: "first" });
    const before = timers();
    for (const text of ["one", "two", "three"]) await caller.call({ text }, { metadata: { "grpc-timeout": "1H" } });
    await expect.poll(timers).toBeLessThanOrEqual(before);
  });

  test("asks a caller to send no more once it has its answer", async () => {
    await start();
    const stream = caller.open().resume();
    const closed = once(stream, "close");
    const trailers = once(stream, "trailers");
    // Never ended, and more than the window: without the server's word it would be stuck.
    stream.write(encodeEnvelope(0, Buffer.alloc(maxBodyBytes + 1)));
    expect((await trailers)[0]).toMatchObject({ "grpc-status": String(Code.DataLoss) });
    await closed;
    expect(stream.rstCode).toBe(0);
    expect(await caller.call({ text: "after" })).toMatchObject({ answer: { text: "after" } });
  });

  test("gives handlers the values, and every answer the headers, of its owner", async () => {
    await start({
      receive: (_stream, headers) => ({
        values: createContextValues().set(valueKey, `for ${String(headers["x-asked"])}`),
        headers: { "x-trace": "t", "x-one": "0" },
      }),
    });
    const answer = await caller.call({ text: "values" }, { metadata: { "x-asked": "me" } });
    expect(answer).toMatchObject({ answer: { text: "for me" }, headers: { "x-trace": "t", "x-one": "0" } });
    // What the handler says goes first.
    expect(await caller.call({ text: "fails" })).toMatchObject({ headers: { "x-trace": "t", "x-one": "1" } });
    expect(await caller.send([])).toMatchObject({ headers: { "x-trace": "t" } });
  });

  test("survives what HTTP/2 forbids in the metadata of an error", async () => {
    await start();
    const { code, trailers } = await caller.call({ text: "proxies" });
    expect([code, trailers["x-why"], trailers.connection]).toEqual([Code.NotFound, "a", undefined]);
  });
});
