import { once } from "node:events";
import { Code, ConnectError, createContextValues } from "@connectrpc/connect";
import { encodeEnvelope } from "@connectrpc/connect/protocol";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { untilInterrupted } from "../../src/call/context.ts";
import type { GrpcServerOptions } from "../../src/grpc/server.ts";
import { envelopeOf, type Outcome, openRaw, type RawCaller } from "./callers.ts";
import { cases } from "./cases.ts";
import { maxBodyBytes, startAdapter, startGrpcServer, type TestServer, valueKey } from "./servers.ts";

describe("responds as Connect's adapter does to", () => {
  let adapter: TestServer;
  let server: TestServer;
  beforeAll(async () => {
    [adapter, server] = await Promise.all([startAdapter(), startGrpcServer()]);
  });
  afterAll(() => [adapter, server].forEach((started) => started.stop()));

  test.each(cases)("$name ($client)", async ({ run, expected, toOurs, isLeftAlone }) => {
    const byAdapter = await run(adapter);
    expect(byAdapter).toMatchObject(expected);
    const before = server.servedCount();
    expect(withoutReason(await run(server))).toEqual(toOurs?.(byAdapter));
    expect(server.servedCount() > before).toBe(isLeftAlone === undefined);
  });
});

/** Removes the reason from errors of the server: the adapter's errors have none. */
function withoutReason(outcome: Outcome): Outcome {
  const { "grpc-status-details-bin": _details, ...trailers } = outcome.trailers;
  const details = outcome.details.filter((detail) => !JSON.stringify(detail).includes("google.rpc.ErrorInfo"));
  return details.length === outcome.details.length ? outcome : { ...outcome, details, trailers };
}

describe("in addition to the adapter", () => {
  const hello = envelopeOf({ text: "hello" });
  const start3Bytes = [hello.subarray(0, 3)];
  const refused: unknown[] = [];
  let server: TestServer;
  let caller: RawCaller;
  let handledTexts: string[];

  async function start(options: Partial<GrpcServerOptions> = {}): Promise<void> {
    server = await startGrpcServer({ refuse, ...options });
    caller = openRaw(server.url);
    handledTexts = [];
    server.handlerEvents.on("working", (text: string) => handledTexts.push(text));
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

  test("refuses a caller that it does not admit before the message has arrived", async () => {
    const forbidden = new ConnectError("not you", Code.PermissionDenied, { "x-why": "a" });
    await start({ admit: () => Promise.reject(forbidden) });
    const outcome = await caller.send(start3Bytes, {}, false);
    expect(outcome).toMatchObject({
      status: 200,
      code: forbidden.code,
      message: "not you",
      trailers: { "x-why": "a" },
    });
    expect([refused, handledTexts]).toEqual([[], []]);
  });

  test("reads the message after it has admitted the caller", async () => {
    const steps: string[] = [];
    await start({
      async admit({ method }) {
        // The whole message has arrived when this call returns.
        await caller.send([hello], { ":path": "/fixture.EchoService/Nowhere" });
        steps.push(`admitted to ${method.name}`, ...handledTexts);
      },
    });
    expect(await caller.send([hello])).toMatchObject({ code: 0, output: { text: "hello" } });
    expect([steps, handledTexts]).toEqual([["admitted to Single"], ["hello"]]);
  });

  test("ends the wait for a message at the body timeout", async () => {
    await start({ bodyTimeoutMs: 20 });
    await caller.send(start3Bytes, {}, false);
    expect(refused).toMatchObject([{ code: Code.DeadlineExceeded, rawMessage: "the body must arrive within 20 ms" }]);
    expect(handledTexts).toEqual([]);
  });

  test("ends the wait for a message at the caller's deadline", async () => {
    await start({});
    const outcome = await caller.send(start3Bytes, { "grpc-timeout": "20m" }, false);
    expect(outcome).toMatchObject({ code: Code.DataLoss, message: "refused" });
    expect(refused).toMatchObject([{ code: Code.DeadlineExceeded, rawMessage: "the deadline has passed" }]);
    expect(handledTexts).toEqual([]);
  });

  test("ends the wait for admission at the caller's deadline, with an error that refuse() does not change", async () => {
    await start({ admit: (context) => untilInterrupted(context, new Promise(() => undefined)) });
    const outcome = await caller.send(start3Bytes, { "grpc-timeout": "20m" }, false);
    expect(outcome).toMatchObject({ code: Code.DeadlineExceeded, message: "the deadline has passed" });
    expect([refused, handledTexts]).toEqual([[], []]);
  });

  test.each<[string, Uint8Array[], Code]>([
    ["half a message", start3Bytes, Code.InvalidArgument],
    ["no message", [], Code.Unimplemented],
    ["two messages", [hello, hello], Code.Unimplemented],
    ["a message that is too large", [encodeEnvelope(0, Buffer.alloc(maxBodyBytes + 1))], Code.ResourceExhausted],
    ["bytes that are not a message", [encodeEnvelope(0, Uint8Array.of(10, 200))], Code.InvalidArgument],
    ["a response that cannot be encoded", [envelopeOf({ text: "unwritable" })], Code.Internal],
  ])("converts the error of %s with refuse()", async (_what, frames, code) => {
    await start();
    expect(await caller.send(frames)).toMatchObject({ code: Code.DataLoss, message: "refused" });
    expect(refused).toMatchObject([{ code }]);
  });

  test.each([
    ["fails", Code.FailedPrecondition],
    ["breaks", Code.Internal],
  ])("does not convert the error of a handler that %s", async (text, code) => {
    await start();
    expect(await caller.call({ text })).toMatchObject({ code });
    expect([refused, handledTexts]).toEqual([[], [text]]);
  });

  test("clears the deadline's timer when the call has finished", async () => {
    await start();
    const timers = () => process.getActiveResourcesInfo().filter((name) => name === "Timeout").length;
    await caller.call({ text: "first" });
    const before = timers();
    for (const text of ["one", "two", "three"]) await caller.call({ text }, { metadata: { "grpc-timeout": "1H" } });
    await expect.poll(timers).toBeLessThanOrEqual(before);
  });

  test("resets the stream of a caller that keeps sending after the response", async () => {
    await start();
    const stream = caller.open().resume();
    const closed = once(stream, "close");
    const trailers = once(stream, "trailers");
    // More bytes than the flow-control window and no end: without RST_STREAM the stream would hang.
    stream.write(encodeEnvelope(0, Buffer.alloc(maxBodyBytes + 1)));
    expect((await trailers)[0]).toMatchObject({ "grpc-status": String(Code.DataLoss) });
    await closed;
    expect(stream.rstCode).toBe(0);
    expect(await caller.call({ text: "after" })).toMatchObject({ output: { text: "after" } });
  });

  test("passes the values of receive() to handlers and adds its headers to every response", async () => {
    await start({
      receive: (_stream, headers) => ({
        values: createContextValues().set(valueKey, `for ${String(headers["x-asked"])}`),
        headers: { "x-trace": "t", "x-one": "0" },
      }),
    });
    const outcome = await caller.call({ text: "values" }, { metadata: { "x-asked": "me" } });
    expect(outcome).toMatchObject({ output: { text: "for me" }, headers: { "x-trace": "t", "x-one": "0" } });
    // Headers of the handler take precedence.
    expect(await caller.call({ text: "fails" })).toMatchObject({ headers: { "x-trace": "t", "x-one": "1" } });
    expect(await caller.send([])).toMatchObject({ headers: { "x-trace": "t" } });
  });

  test("leaves out headers that HTTP/2 forbids from the metadata of an error", async () => {
    await start();
    const { code, trailers } = await caller.call({ text: "forwards" });
    expect([code, trailers["x-why"], trailers.connection]).toEqual([Code.NotFound, "a", undefined]);
  });
});
