import { readFile } from "node:fs/promises";
import { connect as connectSocket, type Socket } from "node:net";
import { create, toBinary } from "@bufbuild/protobuf";
import { encodeEnvelope } from "@connectrpc/connect/protocol";
import { afterAll, beforeAll, expect, test } from "vitest";
import { ServerReflectionRequestSchema } from "#gen/grpc/reflection/v1/reflection_pb.js";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { flags, frame, openFrames, requestHeaders, streamIds, writeAll } from "../support/frames.ts";
import { type ServerProcess, startProcess } from "../support/process.ts";

/** Attacks that once ended the process. Each is bounded by what it may send. */
interface Flood {
  readonly says: string;
  /** Sends for as long as the server takes it, on one connection after the other. */
  readonly send: (port: number, budget: Budget) => Promise<unknown>;
}

/** What a flood may still send. */
interface Budget {
  bytes: number;
}

const heapMegabytes = 256;
const floodBytes = 24_000_000;

let database: TestDatabase;
let server: ServerProcess;
let token: string;

beforeAll(async () => {
  database = await createTestDatabase();
  const command = [process.execPath, `--max-old-space-size=${heapMegabytes}`, "--import", "tsx", "src/main.ts"];
  const settings = {
    DATABASE_URL: database.url,
    TOKEN_KEYS: "a-secret-for-tests-that-is-long-enough",
    ADMIN_PASSWORD: "first administrator",
    LOG_LEVEL: "error",
  };
  server = await startProcess(settings, command);
  const login = await fetch(`${server.url}/admin/token/generation`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ username: "admin", password: "first administrator" }),
  });
  ({ token } = (await login.json()) as { token: string });
});
afterAll(async () => {
  if (server.process.exitCode === null && server.process.signalCode === null) await server.end();
  await database.drop();
});

const port = () => Number(new URL(server.url).port);
const json = "application/json";
const grpc = "application/grpc";
const connectPath = "/tollgate.v1.AuthService/CreateToken";
const reflectionPath = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
const question = encodeEnvelope(
  0,
  toBinary(
    ServerReflectionRequestSchema,
    create(ServerReflectionRequestSchema, {
      messageRequest: { case: "fileContainingSymbol", value: "tollgate.v1.QuotaService" },
    }),
  ),
);
const manyQuestions = Buffer.concat(Array.from({ length: 500 }, () => question));
/** A gRPC message of 16,000 bytes that never ends. */
const longMessage = Buffer.concat([Buffer.of(0, 0, 0, 0x3e, 0x80), Buffer.alloc(10_000, " ")]);

const floods: Flood[] = [
  tinyFrames("a login of Connect", { path: connectPath, type: json, body: Buffer.alloc(10_000, " ") }),
  tinyFrames("a login of the gateway", { path: "/admin/token/generation", type: json, body: Buffer.alloc(10_000, " ") }),
  tinyFrames("a login of gRPC", { path: connectPath, type: grpc, body: longMessage }),
  tinyFrames("a login of gRPC-Web", { path: connectPath, type: "application/grpc-web+proto", body: longMessage }),
  tinyFrames("an upload without a token", {
    path: "/admin/data/00000000-0000-4000-8000-000000000000",
    type: json,
    body: Buffer.alloc(10_000, " "),
    method: "PUT",
  }),
  tinyFrames("a stream of actions without a token", {
    path: "/tollgate.v1.AuditService/RecordActionStream",
    type: grpc,
    body: longMessage,
  }),
  tinyFrames("reflection, nothing read", { path: reflectionPath, type: grpc, body: manyQuestions, window: 0, streams: 77 }),
  tinyFrames("reflection, many streams", { path: reflectionPath, type: grpc, body: manyQuestions, streams: 614 }),
  { says: "chunks of one byte on many connections", send: tinyChunks },
  { says: "reflection, whole questions on many streams", send: questions },
];

test.each(floods.map((flood) => [flood.says, flood.send] as const))("survives %s and serves others in time", { timeout: 120_000 }, async (says, send) => {
  const idle = await caller(() => false);
  const before = await residentMegabytes();
  let flooding = true;
  const started = performance.now();
  const budget = { bytes: floodBytes };
  const flood = send(port(), budget).finally(() => (flooding = false));
  const busy = await caller(() => flooding);
  await flood;
  const report = {
    seconds: Math.round((performance.now() - started) / 100) / 10,
    sentMegabytes: (floodBytes - budget.bytes) / 1e6,
    before,
    after: await residentMegabytes(),
    exit: server.process.exitCode ?? server.process.signalCode,
    idle,
    busy,
  };
  console.log(says, report);
  expect(server.process.exitCode ?? server.process.signalCode, server.output()).toBeNull();
});

interface TinyFrames {
  readonly path: string;
  readonly type: string;
  readonly body: Buffer;
  readonly method?: string;
  readonly streams?: number;
  readonly window?: number;
}

/** DATA frames of one byte, in turn on many streams of one connection; no body ends. */
function tinyFrames(what: string, { path, type, body, method, streams = 900, window = 65_535 }: TinyFrames): Flood {
  const ids = streamIds(streams);
  const heads = Buffer.concat(ids.map((id) => frame("headers", flags.endHeaders, id, requestHeaders(path, type, method))));
  return {
    says: `frames of one byte: ${what}`,
    async send(to, budget) {
      while (budget.bytes > 0 && isAlive()) {
        const socket = openFrames(to, { window });
        let isOpen = await writeAll(socket, heads);
        for (let at = 0; isOpen && budget.bytes > 0 && at < body.length; at += 10) {
          const turns = [...body.subarray(at, at + 10)].flatMap((byte) =>
            ids.map((id) => frame("data", 0, id, Buffer.of(byte))),
          );
          const bytes = Buffer.concat(turns);
          budget.bytes -= bytes.length;
          isOpen = await writeAll(socket, bytes);
        }
        budget.bytes -= heads.length;
        socket.destroy();
      }
    },
  };
}

async function tinyChunks(to: number, budget: Budget): Promise<void> {
  const head = `POST /admin/token/generation HTTP/1.1\r\nhost: x\r\ncontent-type: ${json}\r\ntransfer-encoding: chunked\r\n\r\n`;
  const chunks = Buffer.from("1\r\n \r\n".repeat(100));
  const connections = Array.from({ length: 1100 }, async () => {
    while (budget.bytes > 0 && isAlive()) {
      const socket: Socket = connectSocket(to, "127.0.0.1");
      socket.on("error", () => undefined).resume();
      let isOpen = await writeAll(socket, Buffer.from(head));
      for (let turn = 0; turn < 150 && isOpen && budget.bytes > 0; turn += 1) {
        budget.bytes -= chunks.length;
        isOpen = await writeAll(socket, chunks);
      }
      budget.bytes -= head.length;
      socket.destroy();
    }
  });
  await Promise.all(connections);
}

/** Each question asks for some 76 kB: the flood is bounded by what it asks. */
async function questions(to: number, budget: Budget): Promise<void> {
  const ids = streamIds(20);
  const heads = Buffer.concat(
    ids.map((id) => frame("headers", flags.endHeaders, id, requestHeaders(reflectionPath, grpc))),
  );
  const connections = Array.from({ length: 4 }, async () => {
    for (let turn = 0; turn < 3 && isAlive(); turn += 1) {
      const socket = openFrames(to, { window: 2 ** 31 - 1 });
      const window = Buffer.alloc(4);
      window.writeUInt32BE(2 ** 31 - 1 - 65_535);
      await writeAll(socket, Buffer.concat([frame("windowUpdate", 0, 0, window), heads]));
      let isOpen = true;
      for (let asked = 0; isOpen && asked < 10; asked += 1) {
        const bytes = Buffer.concat(ids.map((id) => frame("data", 0, id, Buffer.from(question))));
        budget.bytes -= bytes.length;
        isOpen = await writeAll(socket, bytes);
        await new Promise((done) => setTimeout(done, 20));
      }
      socket.destroy();
    }
  });
  await Promise.all(connections);
}

function isAlive(): boolean {
  return server.process.exitCode === null && server.process.signalCode === null;
}

/** The median of what an authenticated caller waits for an answer, in milliseconds: of 50 calls, and on while it is told so. */
async function caller(goesOn: () => boolean): Promise<number> {
  const times: number[] = [];
  while (times.length < 50 || goesOn()) {
    const started = performance.now();
    try {
      const answer = await fetch(`${server.url}/admin/users/admin`, { headers: { authorization: `Bearer ${token}` } });
      await answer.arrayBuffer();
      if (answer.status !== 200) break;
    } catch {
      break;
    }
    times.push(performance.now() - started);
  }
  const sorted = times.toSorted((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN;
}

async function residentMegabytes(): Promise<number> {
  const status = await readFile(`/proc/${server.process.pid}/status`, "utf8").catch(() => "");
  return Math.round(Number(/VmRSS:\s+(\d+)/.exec(status)?.[1] ?? Number.NaN) / 1024);
}
