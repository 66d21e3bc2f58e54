import { spawn, spawnSync } from "node:child_process";
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { promisify } from "node:util";
import { Code } from "@connectrpc/connect";
import { afterAll, beforeAll, expect, test } from "vitest";
import { convertInChild } from "../../src/data/convert/child-process.ts";
import { type Converted, contentTypes, convert } from "../../src/data/convert.ts";
import { startTestApp, type TestApp } from "../support/app.ts";
import { rawWorkbook, type WorkbookParts, withDecoy } from "../support/archive.ts";

let app: TestApp;
let username: string;
let token: string;
beforeAll(async () => {
  app = await startTestApp();
  username = await app.user({ roles: ["USER"] });
  token = await app.token(username);
});
afterAll(() => app.stop());

async function put(bytes: Buffer | string, type: string): Promise<string> {
  const tracecode = randomUUID();
  const { status } = await fetch(`${app.url}/admin/data/${tracecode}?username=${username}`, {
    method: "PUT",
    headers: { authorization: `Bearer ${app.admin}`, "content-type": type },
    body: bytes,
  });
  expect(status).toBe(200);
  return tracecode;
}

async function get(tracecode: string, to: "JSON" | "XLSX", signal: AbortSignal = AbortSignal.timeout(60_000)) {
  const headers = { authorization: `Bearer ${token}` };
  const answer = await fetch(`${app.url}/admin/data/${tracecode}?data_flow_convert=${to}`, { headers, signal });
  return { status: answer.status, headers: answer.headers, text: await answer.text() };
}

/** JSON whose conversion takes seconds. */
const large = JSON.stringify(
  Array.from({ length: 40_000 }, (_none, id) => ({ id, a: "x", b: id / 7, c: `y${id}`, d: true })),
);
const limits = { memoryMb: 512, timeMs: 60_000, maxBytes: 1_000_000 };
const never = new AbortController().signal;

const stored = (text: string, onRead: () => void = () => undefined) => ({
  content_type: "application/json",
  filename: "data",
  bytes: Buffer.byteLength(text),
  async *read() {
    onRead();
    yield Buffer.from(text);
  },
});

test("the service answers other calls while a large workbook is converted", { timeout: 180_000 }, async () => {
  const row = '<row><c t="str"><v>text</v></c></row>';
  const numbered = Array.from({ length: 150_000 }, (_none, at) => row.replace("<row>", `<row r="${at + 1}">`));
  const rows = numbered.map((row, index) => row.replace("<c ", `<c r="A${index + 1}" `)).join("");
  const tracecode = await put(rawWorkbook({ rows }), contentTypes.xlsx);
  const conversion = { isOver: false };
  const converted = get(tracecode, "JSON").finally(() => (conversion.isOver = true));
  let calls = 0;
  while (!conversion.isOver) {
    expect((await app.http("GET", "/admin/system/check")).status).toBe(200);
    calls += 1;
  }
  expect((await converted).status).toBe(200);
  expect(calls).toBeGreaterThan(20);
});

test("conversions finish in the order in which they were requested", { timeout: 180_000 }, async () => {
  const done: string[] = [];
  const run = async (text: string, name: string) => {
    // The limit of production is too short for a busy machine.
    (await convert(stored(text), never, 150_000)).release();
    done.push(name);
  };
  await Promise.all([run(large, "long"), run('{"a":1}', "short")]);
  expect(done).toEqual(["long", "short"]);
});

test("an abort rejects at once, during the conversion and in the queue, and the next conversion runs", async () => {
  const middle = new AbortController();
  const queue = new AbortController();
  const first = convert(
    stored(large, () => middle.abort(new Error("aborted during the conversion"))),
    middle.signal,
  );
  const second = convert(
    stored(large, () => expect.unreachable()),
    queue.signal,
  );
  queue.abort(new Error("aborted in the queue"));
  await expect(second).rejects.toThrow("aborted in the queue");
  await expect(first).rejects.toThrow("aborted during the conversion");
  (await convert(stored('{"a":1}'), never)).release();
});

test("a conversion that waits too long is refused and does not run", async () => {
  const first = convert(stored(large), never);
  const late = convert(
    stored('{"a":1}', () => expect.unreachable()),
    never,
    1,
  );
  await expect(late).rejects.toThrow("other conversions take too long");
  (await first).release();
  (await convert(stored('{"a":1}'), never)).release();
});

/** Returns the running children of a process whose command has a text. */
function processesOf(parent: number, text: string): number[] {
  const { stdout } = spawnSync("ps", ["--ppid", String(parent), "-o", "pid=,stat=,args="], { encoding: "utf8" });
  const lines = stdout.split("\n").filter((line) => line.includes(text) && /^ *\d+ +[^Z ]/.test(line));
  return lines.map((line) => Number.parseInt(line, 10));
}

function launchers(): number[] {
  return processesOf(process.pid, "/launcher.ts");
}

function convertersOf(launcher = 0): number[] {
  return processesOf(launcher, " child.ts ");
}

test("an abort ends the child process", async () => {
  const controller = new AbortController();
  // The child waits for the rest of the data.
  const content = async function* () {
    yield Buffer.from("[1");
    await once(controller.signal, "abort");
  };
  const work = convertInChild(content(), "json", controller.signal, limits);
  const converters = () => convertersOf(launchers()[0]);
  await expect.poll(converters, { interval: 5, timeout: 10_000 }).toHaveLength(1);
  controller.abort(new Error("late"));
  await expect(work).rejects.toThrow("late");
  await expect.poll(converters).toEqual([]);
});

test("a launcher that ends fails its conversion, and the next conversion has a new one", async () => {
  let converters: number[] = [];
  const content = async function* () {
    yield Buffer.from("[1");
    const [launcher] = launchers();
    if (launcher === undefined) throw new Error("no launcher runs");
    await expect.poll(() => (converters = convertersOf(launcher)), { timeout: 10_000 }).toHaveLength(1);
    // A child that is stopped does not end with its input.
    for (const pid of converters) process.kill(pid, "SIGSTOP");
    process.kill(launcher, "SIGKILL");
    await expect.poll(launchers).toEqual([]);
    yield Buffer.from("]");
  };
  await expect(convertInChild(content(), "json", never, limits)).rejects.toThrow(
    "the launcher of conversions ended with SIGKILL",
  );
  const running = () => converters.filter((pid) => existsSync(`/proc/${pid}`));
  await expect.poll(running).toEqual([]);
  expect((await convertInChild(stored("[1]").read(), "json", never, limits)).length).toBeGreaterThan(1000);
  expect(launchers()).toHaveLength(1);
});

test("SIGTERM to the child process does not end the conversion", async () => {
  const command = ["--import", "tsx", "child.ts", "json"];
  const converter = spawn(process.execPath, command, { cwd: "src/data/convert" });
  converter.stdout.resume();
  const ended = once(converter, "close");
  // The input exceeds the buffer of the pipe: once it is written, the process has started to read.
  await promisify<string, void>((part, done) => converter.stdin.write(part, done))(large.slice(0, 1_000_000));
  converter.kill("SIGTERM");
  converter.stdin.end(large.slice(1_000_000));
  expect(await ended).toEqual([0, null]);
});

/** A small workbook whose JSON has some 60 MB: every row repeats the long column name. */
function growing() {
  const numbered = Array.from(
    { length: 1000 },
    (_none, at) => `<row r="${at + 2}"><c r="A${at + 2}"><v>1</v></c></row>`,
  );
  const rows = `<row r="1"><c r="A1" t="s"><v>0</v></c></row>${numbered.join("")}`;
  const workbook = rawWorkbook({ strings: `<si><t>${"x".repeat(60_000)}</t></si>`, rows });
  return {
    content_type: contentTypes.xlsx,
    filename: "data",
    bytes: workbook.length,
    async *read() {
      yield workbook;
    },
  };
}

test("the results of slow readers have a limit in total, and a reader that disconnects frees its share", {
  timeout: 120_000,
}, async () => {
  const [slow, gone] = [new AbortController(), new AbortController()];
  const held: Converted[] = [];
  for (const { signal } of [slow, slow, slow, gone]) held.push(await convert(growing(), signal));
  const sum = held.reduce((total, { bytes }) => total + bytes.length, 0);
  expect(sum).toBeGreaterThan(200_000_000);
  expect(sum).toBeLessThanOrEqual(268_435_456);

  const small = () => convert(stored('{"a":1}'), never);
  await expect(small()).rejects.toMatchObject({
    code: Code.Unavailable,
    rawMessage: "too much converted data is still being read",
  });
  gone.abort(new Error("gone"));
  (await small()).release();
  // A second release has no effect.
  held[3]?.release();
  held.push(await convert(growing(), slow.signal));
  await expect(small()).rejects.toMatchObject({ code: Code.Unavailable });
  for (const { release } of held) release();
  (await small()).release();
});

test.each<[string, Partial<typeof limits>, string]>([
  ["memory", { memoryMb: 12 }, "it is too large: its conversion needs more than 12 MB of memory or 60 seconds"],
  ["time", { timeMs: 50 }, "it is too large: its conversion needs more than 512 MB of memory or 0.05 seconds"],
  ["space", { maxBytes: 9 }, "it is too large: the result exceeds 9 bytes"],
])(
  "a conversion that needs too much %s is refused with the rule",
  { timeout: 180_000 },
  async (_what, less, reason) => {
    const work = convertInChild(stored(large).read(), "json", never, { ...limits, ...less });
    await expect(work).rejects.toThrow(reason);
  },
);

test.each<[string, WorkbookParts, number, string]>([
  [
    "names",
    { names: '<definedNames><definedName name="all">Sheet1!$A$1:$Z$1048576</definedName></definedNames>' },
    200,
    '{"Sheet1":[{"a":1}]}',
  ],
  ["columns", { cols: '<cols><col min="1" max="2000000000"/></cols>' }, 200, '{"Sheet1":[{"a":1}]}'],
  ["styles", { styles: "<xf/>".repeat(6_000_001) }, 400, "it has more than 6000000 elements"],
  ["texts", { strings: `<si>${"<r><t>a</t></r>".repeat(3_000_000)}</si>` }, 400, "it has more than 6000000 elements"],
])(
  "a workbook with a bomb of %s does not disturb other calls",
  { timeout: 180_000 },
  async (_what, parts, status, text) => {
    const answer = await get(await put(rawWorkbook(parts), contentTypes.xlsx), "JSON");
    expect([answer.status, answer.text]).toEqual([status, expect.stringContaining(text)]);
    expect((await app.http("GET", "/admin/system/check")).status).toBe(200);
  },
);

test("the reason for a refusal names the sheet, the cell and the rule", async () => {
  const rows = '<row r="1"><c r="A1"><v>12345678901234567890</v></c></row>';
  const answer = await get(await put(rawWorkbook({ rows }), contentTypes.xlsx), "JSON");
  expect([answer.status, JSON.parse(answer.text).message]).toEqual([
    400,
    "data_flow_convert: the data cannot be converted: the cell A1 of the sheet Sheet1 has a number that cannot be kept " +
      "exactly: 12345678901234567890",
  ]);
});

test("a value that the JSON would lose is refused with the rule", async () => {
  const rows = '<row r="1"><c r="A1" t="str"><v>a</v></c></row><row r="2"><c r="B2"><v>7</v></c></row>';
  const answer = await get(await put(rawWorkbook({ rows }), contentTypes.xlsx), "JSON");
  expect([answer.status, JSON.parse(answer.text).message]).toEqual([
    400,
    "data_flow_convert: the data cannot be converted: the cell B2 of the sheet Sheet1 is in a column without a name: " +
      "row 1 must name every column that has values",
  ]);
});

test("refuses a ZIP bomb behind a decoy directory", async () => {
  const bomb = withDecoy(rawWorkbook({ strings: `<si><t>${"x".repeat(150_000_000)}</t></si>` }));
  const answer = await get(await put(bomb, contentTypes.xlsx), "JSON");
  expect([answer.status, JSON.parse(answer.text).message]).toEqual([
    400,
    "data_flow_convert: the data cannot be converted: it is not a workbook: it is not a valid ZIP archive",
  ]);
});

test.each(["json", "xlsx"] as const)("%s that needs no conversion is returned unchanged, at any size", async (kind) => {
  const text = `"${"x".repeat(5_000_000)}"`;
  const tracecode = await put(text, contentTypes[kind]);
  const answer = await get(tracecode, kind === "json" ? "JSON" : "XLSX");
  expect([answer.status, answer.headers.get("content-type"), answer.text === text]).toEqual([
    200,
    contentTypes[kind],
    true,
  ]);
  const converted = await get(tracecode, kind === "json" ? "XLSX" : "JSON");
  expect([converted.status, JSON.parse(converted.text).message]).toEqual([
    400,
    "data_flow_convert: the data cannot be converted: its size must be at most 4194304 bytes, and is 5000002",
  ]);
});
