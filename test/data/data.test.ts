import { createHash, randomBytes, randomUUID } from "node:crypto";
import { once } from "node:events";
import { request } from "node:http";
import { connect } from "node:http2";
import { type Client, Code, ConnectError, createClient } from "@connectrpc/connect";
import { createConnectTransport, createGrpcTransport, createGrpcWebTransport } from "@connectrpc/connect-node";
import pino from "pino";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Conversion_Name, Data_Flow, DataService } from "#gen/tollgate/v1/data_pb.js";
import { dropFiles } from "../../src/data/store.ts";
import { ensurePartitions } from "../../src/postgres/partitions.ts";
import { startRetention } from "../../src/postgres/retention.ts";
import { type Json, startTestApp, type TestApp } from "../support/app.ts";

const maxBytes = 2_000_000;
let app: TestApp;
let data: Client<typeof DataService>;
let service: { headers: { authorization: string } };
let username: string;
beforeAll(async () => {
  app = await startTestApp({ DATA_MAX_BYTES: String(maxBytes), BODY_TIMEOUT_MS: "2000", DATABASE_POOL: "5" });
  data = createClient(DataService, createGrpcTransport({ baseUrl: app.url }));
  const planner = await app.user({ username: "planner", roles: ["BOT"] });
  service = { headers: { authorization: `Bearer ${await app.token(planner)}` } };
  username = await app.user({ roles: ["USER"] });
});
afterAll(() => app.stop());

async function* parts(fields: Json, bytes: Uint8Array, size = 100_000) {
  yield {
    ...fields,
    file: { contentType: fields.contentType ?? "application/octet-stream", data: bytes.subarray(0, size) },
  };
  for (let at = size; at < bytes.length; at += size) yield { file: { data: bytes.subarray(at, at + size) } };
}

const put = (fields: Json, bytes: Uint8Array, size?: number) =>
  data.putData(parts({ username, tracecode: randomUUID(), ...fields }, bytes, size), service);

async function get(path: string, headers: Record<string, string> = {}, token = app.admin) {
  const response = await fetch(`${app.url}/admin/data/${path}`, {
    headers: { authorization: `Bearer ${token}`, ...headers },
  });
  return { status: response.status, headers: response.headers, bytes: Buffer.from(await response.arrayBuffer()) };
}

const httpPut = (path: string, body: Uint8Array | string, headers: Record<string, string> = {}) =>
  fetch(`${app.url}/admin/data/${path}`, { method: "PUT", headers: { ...service.headers, ...headers }, body });

const chunks = () => app.database("data_chunk").count();
const codeOf = (work: Promise<unknown>) =>
  work.then(
    () => undefined,
    (error: unknown) => ConnectError.from(error).code,
  );

describe("the files of a tracecode", () => {
  const list = (tracecode: string, token: string) =>
    app.http("GET", `/admin/data/${tracecode}/files`, { token }).then(({ status, body }) => {
      expect(status).toBe(200);
      return body.files;
    });

  test("are listed INPUT first, then by stage", async () => {
    const tracecode = randomUUID();
    const bytes = Buffer.from("{}");
    const sha256 = createHash("sha256").update(bytes).digest("hex");
    const before = Date.now();
    await put({ tracecode, dataFlowType: Data_Flow.OUTPUT, contentType: "text/plain" }, bytes);
    await put({ tracecode, dataFlowStage: 2, filename: "plan.json", contentType: "application/json" }, bytes);
    await put({ tracecode, filename: "first.json", contentType: "application/json" }, Buffer.alloc(0));
    const files: Json[] = await list(tracecode.toUpperCase(), app.admin);
    expect(files.map((file) => ({ ...file, time: undefined }))).toEqual([
      {
        data_flow_type: "INPUT",
        data_flow_stage: 0,
        content_type: "application/json",
        filename: "first.json",
        bytes: 0,
        sha256: createHash("sha256").digest("hex"),
      },
      {
        data_flow_type: "INPUT",
        data_flow_stage: 2,
        content_type: "application/json",
        filename: "plan.json",
        bytes: 2,
        sha256,
      },
      {
        data_flow_type: "OUTPUT",
        data_flow_stage: 0,
        content_type: "text/plain",
        filename: tracecode,
        bytes: 2,
        sha256,
      },
    ]);
    for (const { time } of files) expect(Date.parse(time)).toBeGreaterThanOrEqual(before - 1);
  });

  test("are those that the caller may read: the user's own, the partner's company's, all for an administrator", async () => {
    const company_key = await app.company();
    const owner = await app.user({ company_key, roles: ["USER"] });
    const tokens = {
      administrator: app.admin,
      owner: await app.token(owner),
      partner: await app.token(await app.user({ company_key, roles: ["PARTNER"] })),
      colleague: await app.token(await app.user({ company_key, roles: ["USER"] })),
      foreignPartner: await app.token(await app.user({ roles: ["PARTNER"] })),
    };
    const tracecode = randomUUID();
    await put({ tracecode, username: owner }, Buffer.from("x"));
    const seen: Record<string, number> = {};
    for (const [name, token] of Object.entries(tokens)) seen[name] = (await list(tracecode, token)).length;
    expect(seen).toEqual({ administrator: 1, owner: 1, partner: 1, colleague: 0, foreignPartner: 0 });
  });

  test("are an empty list for an unknown tracecode", async () => {
    expect(await list(randomUUID(), app.admin)).toEqual([]);
  });
});

describe("an upload", () => {
  test.each([0, 1, 262_143, 262_144, 262_145, 1_500_000])("of %i bytes is returned unchanged", async (length) => {
    const bytes = randomBytes(length);
    const tracecode = randomUUID().toUpperCase();
    const sha256 = createHash("sha256").update(bytes).digest("hex");
    const fields = { tracecode, contentType: "application/x-plan", filename: 'план "1".bin', sha256 };
    expect(await put(fields, bytes)).toMatchObject({ bytes: BigInt(length), sha256, repeated: false });
    const answer = await get(tracecode);
    expect(answer.status).toBe(200);
    expect(answer.bytes.equals(bytes)).toBe(true);
    expect(Object.fromEntries(answer.headers)).toMatchObject({
      "content-type": "application/x-plan",
      "content-length": String(length),
      "content-disposition": String.raw`attachment; filename="???? \"1\".bin"; filename*=UTF-8''%D0%BF%D0%BB%D0%B0%D0%BD%20%221%22.bin`,
      "x-content-type-options": "nosniff",
      etag: `"${sha256}"`,
    });
  });

  test("over HTTP takes the file as the request body", async () => {
    const tracecode = randomUUID();
    const body = JSON.stringify({ a: "x".repeat(600_000) });
    const answer = await httpPut(
      `${tracecode}?username=${username}&filename=plan.json&data_flow_type=OUTPUT&data_flow_stage=2`,
      body,
      { "content-type": "application/json" },
    );
    expect([answer.status, await answer.json()]).toEqual([
      200,
      { bytes: body.length, sha256: createHash("sha256").update(body).digest("hex"), repeated: false },
    ]);
    const read = await get(`${tracecode}?data_flow_type=OUTPUT&data_flow_stage=2`);
    expect([read.headers.get("content-type"), read.bytes.toString()]).toEqual(["application/json", body]);
    expect((await get(tracecode)).status).toBe(404);
  });

  test("whose content type version 1.0 stored unchecked is that of unknown bytes", async () => {
    const tracecode = randomUUID();
    await put({ tracecode, contentType: "text/plain", filename: "plan.txt" }, Buffer.from("{}"));
    await app.database("data_file").where({ tracecode }).update({ content_type: "text/plain\r\nx-injected: yes" });
    const { status, headers, bytes } = await get(tracecode);
    expect([status, headers.get("content-type"), headers.get("x-injected"), bytes.toString()]).toEqual([
      200,
      "application/octet-stream",
      null,
      "{}",
    ]);
    const { body } = await app.http("GET", `/admin/data/${tracecode}/files`, { token: app.admin });
    expect(body.files[0].content_type).toBe("application/octet-stream");
  });

  test("works over HTTP/2", async () => {
    const tracecode = randomUUID();
    const bytes = randomBytes(900_000);
    const session = connect(app.url);
    const stream = session.request({
      ":method": "PUT",
      ":path": `/admin/data/${tracecode}?username=${username}`,
      ...service.headers,
    });
    const answered = once(stream, "response");
    stream.end(bytes);
    const [headers] = await answered;
    expect(headers[":status"]).toBe(200);
    session.destroy();
    expect((await get(tracecode)).bytes.equals(bytes)).toBe(true);
  });

  test("is a repetition with the same bytes, a conflict with other bytes, and new under another flow or stage", async () => {
    const tracecode = randomUUID();
    const [bytes, others] = [randomBytes(300_000), randomBytes(300_000)];
    await put({ tracecode }, bytes);
    expect(await put({ tracecode }, bytes, 70_000)).toMatchObject({ repeated: true });
    expect(await codeOf(put({ tracecode }, others))).toBe(Code.AlreadyExists);
    expect((await httpPut(`${tracecode}?username=${username}`, others)).status).toBe(409);
    await put({ tracecode, dataFlowType: Data_Flow.OUTPUT }, others);
    await put({ tracecode, dataFlowStage: 3 }, others);
    expect((await get(tracecode)).bytes.equals(bytes)).toBe(true);
  });

  test("of eight clients at once is stored once; the same bytes are repetitions, other bytes conflicts", async () => {
    const tracecode = randomUUID();
    const versions = [randomBytes(600_000), randomBytes(600_000)];
    const outcomes = await Promise.allSettled(
      Array.from({ length: 8 }, (_none, index) => put({ tracecode }, versions[index % 2] as Buffer)),
    );
    const kept = outcomes.flatMap((outcome) => (outcome.status === "fulfilled" ? [outcome.value.repeated] : []));
    expect(kept.toSorted()).toEqual([false, true, true, true]);
    const [row] = await app.database("data_file").where({ tracecode });
    expect(await app.database("data_chunk").where({ file_id: row.id }).count()).toEqual([{ count: 3 }]);
  });
});

describe("a refused upload stores nothing", () => {
  test.each<[string, Json, string]>([
    ["no tracecode", { tracecode: "" }, "tracecode"],
    ["no username", { username: "" }, "username: "],
    ["an unknown user", { username: "no_such_user" }, "username: must be the name of an existing user: no_such_user"],
    ["NOTRACE", { methodGroup: 1 }, "method_group"],
    ["a stage that does not exist", { dataFlowStage: 4 }, "data_flow_stage"],
    ["a file name with a path in it", { filename: "../x" }, "filename"],
    ["another checksum", { sha256: "0".repeat(64) }, "sha256: must match the received bytes, whose SHA-256 is"],
  ])("%s", async (_what, fields, message) => {
    const before = await chunks();
    await expect(put(fields, randomBytes(600_000))).rejects.toThrow(message);
    expect(await chunks()).toEqual(before);
  });

  test("data that is too large, over gRPC and HTTP", async () => {
    const before = await chunks();
    const bytes = randomBytes(maxBytes + 1);
    expect(await codeOf(put({}, bytes))).toBe(Code.ResourceExhausted);
    const answer = await httpPut(`${randomUUID()}?username=${username}`, bytes);
    expect([answer.status, ((await answer.json()) as Json).message]).toEqual([
      413,
      `the data is larger than ${maxBytes} bytes`,
    ]);
    expect(await chunks()).toEqual(before);
    await put({}, bytes.subarray(1));
  });

  test("an interrupted upload and a stalled upload", async () => {
    const before = await chunks();
    const broken = async (breakOff: boolean) => {
      const tracecode = randomUUID();
      const outgoing = request(`${app.url}/admin/data/${tracecode}?username=${username}`, {
        method: "PUT",
        headers: service.headers,
      });
      const answered = new Promise<number | undefined>((resolve) => {
        outgoing.on("response", ({ statusCode }) => resolve(statusCode)).on("error", () => resolve(undefined));
      });
      outgoing.write(randomBytes(900_000));
      if (breakOff) setTimeout(() => outgoing.destroy(), 100);
      const status = await answered;
      outgoing.destroy();
      return { status, found: await app.database("data_file").where({ tracecode }) };
    };
    expect(await broken(false)).toEqual({ status: 408, found: [] });
    expect(await broken(true)).toEqual({ status: undefined, found: [] });
    await expect.poll(chunks).toEqual(before);
  });

  test("a second first message", async () => {
    async function* twice() {
      yield* parts({ username, tracecode: randomUUID() }, randomBytes(10));
      yield* parts({ username, tracecode: randomUUID() }, randomBytes(10));
    }
    await expect(data.putData(twice(), service)).rejects.toThrow("tracecode: must be set in the first message only");
  });
});

describe("protocols that frame the bytes", () => {
  test.each([
    ["gRPC", createGrpcTransport, {}],
    ["gRPC-Web", createGrpcWebTransport, { httpVersion: "1.1" as const }],
    ["Connect", createConnectTransport, { httpVersion: "1.1" as const }],
  ])("%s returns the whole file", async (_name, createTransport, options) => {
    const reader = createClient(DataService, createTransport({ httpVersion: "2", ...options, baseUrl: app.url }));
    for (const length of [10, 700_000]) {
      const bytes = randomBytes(length);
      const tracecode = randomUUID();
      await put({ tracecode }, bytes);
      const pieces: Uint8Array[] = [];
      // The Range header applies to HTTP only.
      const headers = { authorization: `Bearer ${app.admin}`, range: "bytes=0-0" };
      for await (const piece of reader.readData({ tracecode }, { headers }))
        pieces.push(piece.file?.data ?? new Uint8Array());
      expect(Buffer.concat(pieces).equals(bytes)).toBe(true);
    }
  });
});

test("a gRPC caller gets a reason that quotes half of a character", async () => {
  const reader = createClient(DataService, createGrpcTransport({ baseUrl: app.url }));
  const tracecode = randomUUID();
  // The reason quotes the first 60 characters of the key with its quotation mark.
  const key = `"${"x".repeat(58)}😀"`;
  await put({ tracecode, contentType: "application/json" }, Buffer.from(`{${key}:1,${key}:2}`));
  const request = { tracecode, dataFlowConvert: Conversion_Name.XLSX };
  const pieces = reader.readData(request, { headers: { authorization: `Bearer ${app.admin}` } });
  await expect(pieces[Symbol.asyncIterator]().next()).rejects.toMatchObject({
    code: Code.InvalidArgument,
    rawMessage: expect.stringContaining("an object has the key"),
  });
});

describe("a range", () => {
  const bytes = randomBytes(700_000);
  const tracecode = randomUUID();
  beforeAll(() => put({ tracecode }, bytes));

  test.each([
    ["bytes=0-0", 0, 1],
    ["bytes=262143-262144", 262_143, 262_145],
    ["bytes=100-", 100, 700_000],
    ["bytes=-5", 699_995, 700_000],
    ["bytes=699999-9999999", 699_999, 700_000],
  ])("%s", async (range, from, to) => {
    const answer = await get(tracecode, { range });
    expect([answer.status, answer.headers.get("content-range")]).toEqual([206, `bytes ${from}-${to - 1}/700000`]);
    expect(answer.headers.get("content-length")).toBe(String(to - from));
    expect(answer.bytes.equals(bytes.subarray(from, to))).toBe(true);
  });

  test.each(["bytes=5-4", "lines=1-2", "bytes=0-1,5-6", "bytes=-"])("%s gives the whole file", async (range) => {
    expect([(await get(tracecode, { range })).status, (await get(tracecode, { range })).bytes.length]).toEqual([
      200, 700_000,
    ]);
  });

  test("of another version gives the whole file", async () => {
    const etag = (await get(tracecode)).headers.get("etag") ?? "";
    expect((await get(tracecode, { range: "bytes=0-0", "if-range": etag })).status).toBe(206);
    expect((await get(tracecode, { range: "bytes=0-0", "if-range": '"other"' })).status).toBe(200);
  });

  test("applies after the conditions, and If-Match before If-None-Match", async () => {
    const etag = (await get(tracecode)).headers.get("etag") ?? "";
    const range = "bytes=0-0";
    const beyond = "bytes=700000-";
    const rows: [headers: Record<string, string>, status: number][] = [
      [{ "if-match": etag }, 200],
      [{ "if-match": "*" }, 200],
      [{ "if-match": `"other", ${etag}`, range }, 206],
      [{ "if-match": '"other"' }, 412],
      [{ "if-match": `W/${etag}` }, 412],
      [{ "if-match": '"other"', range: beyond }, 412],
      [{ "if-match": '"other"', "if-none-match": etag }, 412],
      [{ "if-match": etag, "if-none-match": etag }, 304],
      [{ "if-none-match": etag, range }, 304],
      [{ "if-none-match": `W/${etag}`, range: beyond }, 304],
      [{ "if-none-match": '"other"', range }, 206],
      [{ "if-none-match": '"other"', range: beyond }, 416],
      [{ "if-match": etag, range, "if-range": '"other"' }, 200],
    ];
    for (const [headers, status] of rows)
      expect([headers, (await get(tracecode, headers)).status]).toEqual([headers, status]);
    const failed = await get(tracecode, { "if-match": '"other"' });
    expect(failed.headers.get("etag")).toBeNull();
    expect(JSON.parse(failed.bytes.toString())).toMatchObject({
      message: `If-Match must name the current ETag: ${etag}`,
      reason: "PRECONDITION_FAILED",
      tracedata: { operation: "read_data" },
    });
  });

  test.each(["bytes=700000-", "bytes=-0"])("%s is 416 with the length", async (range) => {
    const answer = await get(tracecode, { range });
    expect([answer.status, answer.headers.get("content-range")]).toEqual([416, "bytes */700000"]);
    expect(JSON.parse(answer.bytes.toString()).tracedata.operation).toBe("read_data");
  });
});

test("a file is visible to its owner, the partners of the company and administrators only", async () => {
  const company_key = await app.company();
  const owner = await app.user({ company_key, roles: ["USER"] });
  const tracecode = randomUUID();
  await put({ tracecode, username: owner }, randomBytes(10));
  const status = async (reader: string) => (await get(tracecode, {}, await app.token(reader))).status;
  expect(await status(owner)).toBe(200);
  expect(await status(await app.user({ company_key, roles: ["PARTNER"] }))).toBe(200);
  expect(await status(await app.user({ company_key, roles: ["USER"] }))).toBe(404);
  expect(await status(await app.user({ roles: ["PARTNER"] }))).toBe(404);
  await app.http("DELETE", `/admin/users/${owner}`, { token: app.admin });
  await app.user({ username: owner, company_key, roles: ["USER"] });
  expect(await status(owner)).toBe(404);
  expect((await get(tracecode)).status).toBe(200);
});

test("all files of a tracecode belong to the owner of the first, even if a later user has the same name", async () => {
  const [company_key, another] = [await app.company(), await app.company()];
  const owner = await app.user({ company_key });
  const tracecode = randomUUID();
  await put({ tracecode, username: owner }, randomBytes(10));
  await app.http("DELETE", `/admin/users/${owner}`, { token: app.admin });
  await put({ tracecode, username: owner, dataFlowStage: 2 }, randomBytes(10));
  await app.user({ username: owner, company_key: another, roles: ["USER"] });
  await put({ tracecode, username: owner, dataFlowType: Data_Flow.OUTPUT }, randomBytes(10));
  const output = `${tracecode}?data_flow_type=OUTPUT`;
  const partner = await app.token(await app.user({ company_key, roles: ["PARTNER"] }));
  expect((await get(output, {}, await app.token(owner))).status).toBe(404);
  expect((await get(output, {}, partner)).status).toBe(200);
  const laterTracecode = randomUUID();
  await put({ tracecode: laterTracecode, username: owner }, randomBytes(10));
  expect((await get(laterTracecode, {}, await app.token(owner))).status).toBe(200);
});

test("a file whose stored bytes have changed is not returned as complete", async () => {
  const tracecode = randomUUID();
  await put({ tracecode }, randomBytes(600_000));
  const [{ id }] = await app.database("data_file").where({ tracecode });
  await app
    .database("data_chunk")
    .where({ file_id: id, start: 262_144 })
    .update({ content: randomBytes(262_144) });
  await expect(get(tracecode)).rejects.toThrow();
});

test("JSON converts to a workbook and back; other data is refused", async () => {
  const tracecode = randomUUID();
  await httpPut(`${tracecode}?username=${username}&filename=plan.json`, '{"a":[{"b":1}]}', {
    "content-type": "application/json",
  });
  const xlsx = await get(`${tracecode}?data_flow_convert=XLSX`);
  expect([xlsx.status, xlsx.headers.get("content-disposition")]).toEqual([200, "attachment; filename=plan.xlsx"]);
  const back = randomUUID();
  await put({ tracecode: back, contentType: xlsx.headers.get("content-type") }, xlsx.bytes);
  expect((await get(`${back}?data_flow_convert=JSON`)).bytes.toString()).toBe('{"a":[{"b":1}]}');
  const other = randomUUID();
  await put({ tracecode: other, contentType: "image/png" }, randomBytes(10));
  const refused = await get(`${other}?data_flow_convert=JSON`);
  expect([refused.status, JSON.parse(refused.bytes.toString()).message]).toEqual([
    400,
    "data_flow_convert: the data cannot be converted: image/png is neither JSON nor XLSX",
  ]);
});

test("retention deletes the rows of old files and then their bytes", async () => {
  const [old, fresh] = [randomUUID(), randomUUID()];
  for (const tracecode of [old, fresh]) await put({ tracecode }, randomBytes(10));
  const day = (daysAgo: number) => Date.now() - daysAgo * 86_400_000;
  const date = (ms: number) => new Date(ms).toISOString().slice(0, 10);
  await ensurePartitions(app.database, "data_chunk", new Set([Math.floor(day(100) / 86_400_000)]));
  const [{ id }] = await app.database("data_file").where({ tracecode: old });
  await app
    .database("data_file")
    .where({ id })
    .update({ day: date(day(100)) });
  await app
    .database("data_chunk")
    .where({ file_id: id })
    .update({ day: date(day(100)) });
  expect((await get(old)).status).toBe(200);
  const logger = pino({ level: "silent" });
  const deleteDependents = (beforeMs: number) => dropFiles(app.database, beforeMs);
  const stop = startRetention({ database: app.database, logger, now: Date.now }, [
    { table: "data_chunk", days: 90, deleteDependents },
  ]);
  await expect.poll(async () => (await get(old)).status).toBe(404);
  await expect.poll(() => app.database("data_chunk").where({ file_id: id }).count()).toEqual([{ count: 0 }]);
  stop();
  expect((await get(fresh)).status).toBe(200);
});
