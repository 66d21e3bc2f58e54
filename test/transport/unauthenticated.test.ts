import { EventEmitter } from "node:events";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { expect, test, vi } from "vitest";
import { ServerReflection } from "#gen/grpc/reflection/v1/reflection_pb.js";
import { createUnauthenticatedConnections } from "../../src/transport/unauthenticated.ts";
import { startTestApp } from "../support/app.ts";

const limits = { maxConnections: 2, maxStreams: 2, streamMs: 60_000 };

function open() {
  const end = vi.fn<() => void>();
  return { connection: new EventEmitter(), end };
}

test("a connection above the limit ends the oldest unauthenticated connection", () => {
  const unauthenticated = createUnauthenticatedConnections(limits);
  const all = [open(), open(), open(), open()] as const;
  const [known, oldest, ...others] = all;
  unauthenticated.enterConnection(known.connection, known.end);
  unauthenticated.enterConnection(oldest.connection, oldest.end);
  unauthenticated.recognize(known.connection);
  for (const { connection, end } of others) unauthenticated.enterConnection(connection, end);
  expect(all.map(({ end }) => end.mock.calls.length)).toEqual([0, 1, 0, 0]);
});

test("a closed connection no longer counts", () => {
  const unauthenticated = createUnauthenticatedConnections(limits);
  const all = [open(), open(), open()] as const;
  for (const { connection, end } of all) {
    unauthenticated.enterConnection(connection, end);
    if (connection === all[0].connection) connection.emit("close");
  }
  expect(all.map(({ end }) => end.mock.calls.length)).toEqual([0, 0, 0]);
});

test("a call above the limit ends the oldest unauthenticated call, and authenticated calls do not count", () => {
  const unauthenticated = createUnauthenticatedConnections(limits);
  const [known, stranger] = [open(), open()];
  for (const { connection, end } of [known, stranger]) unauthenticated.enterConnection(connection, end);
  unauthenticated.recognize(known.connection);
  const calls = [known, known, known, stranger, stranger, stranger].map(({ connection }) => ({
    ...open(),
    on: connection,
  }));
  for (const { on, connection, end } of calls) unauthenticated.enterStream(on, connection, end);
  expect(calls.map(({ end }) => end.mock.calls.length)).toEqual([0, 0, 0, 1, 0, 0]);
});

test("a silent reflection stream ends with DEADLINE_EXCEEDED", async () => {
  const app = await startTestApp({ BODY_TIMEOUT_MS: "200" });
  const reflection = createClient(ServerReflection, createGrpcTransport({ baseUrl: app.url }));
  async function* silence() {
    await new Promise(() => undefined);
    yield {};
  }
  const answers = reflection.serverReflectionInfo(silence())[Symbol.asyncIterator]();
  const error = await answers.next().catch((failure: unknown) => failure);
  expect(ConnectError.from(error).code).toBe(Code.DeadlineExceeded);
  await app.stop();
});

test("concurrent unauthenticated calls start in small groups, and authenticated calls start between them", async () => {
  const unauthenticated = createUnauthenticatedConnections(limits);
  const [known, stranger] = [open(), open()];
  for (const { connection, end } of [known, stranger]) unauthenticated.enterConnection(connection, end);
  unauthenticated.recognize(known.connection);
  const started: string[] = [];
  for (let call = 0; call < 40; call += 1) {
    unauthenticated.startCall(stranger.connection, () => started.push(`stranger ${call}`));
  }
  expect(started).toHaveLength(16);
  unauthenticated.startCall(known.connection, () => started.push("known"));
  await new Promise(setImmediate);
  expect(started).toHaveLength(33);
  expect(started[16]).toBe("known");
  await new Promise(setImmediate);
  expect(started.at(-1)).toBe("stranger 39");
  expect(started).toHaveLength(41);
});

test("a call that began before its caller was authenticated has no time limit", () => {
  vi.useFakeTimers();
  try {
    const unauthenticated = createUnauthenticatedConnections(limits);
    const [known, stranger] = [open(), open()];
    const calls = [known, stranger].map(({ connection, end }) => {
      const call = open();
      unauthenticated.enterConnection(connection, end);
      unauthenticated.enterStream(connection, call.connection, call.end);
      return call;
    });
    unauthenticated.recognize(known.connection);
    vi.advanceTimersByTime(limits.streamMs);
    expect(calls.map(({ end }) => end.mock.calls.length)).toEqual([0, 1]);
  } finally {
    vi.useRealTimers();
  }
});
