import { execFileSync } from "node:child_process";
import { create } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { afterEach, expect, test } from "vitest";
import { preferredType } from "../../src/gateway/accept.ts";
import { type FixtureServer, serviceOf, startFixture } from "./fixture.ts";

/** JSON whose shape a test does not declare. */
type Json = ReturnType<typeof JSON.parse>;

const service = serviceOf("EchoService");
const pageDesc = service.method.rows?.output;
const nasty = ['a "b", c', "two\r\nlines", " ", "", "ünï ☃", "0012", "-1", "=1+1", "'=1", "'", "\t=1", "  @x", "＝1"];

/** Pages with the texts. The first has no rows, and each of the others one. */
function pagesOf(texts: readonly string[], fields: Json = {}): Json[] {
  if (pageDesc === undefined) throw new Error("the fixture has no method Rows");
  const pages = texts.map((text, index) => ({ total: index, rows: [{ text, ...fields }] }));
  return [{ total: 9 }, ...pages].map((page) => create(pageDesc, page as Json));
}

let server: FixtureServer | undefined;
afterEach(() => server?.stop());

async function get(accept: string, pages: readonly Json[]) {
  server = await startFixture({
    rows: async function* () {
      yield* pages;
    },
  });
  const response = await fetch(`${server.url}/rows`, { headers: { accept } });
  return { status: response.status, headers: response.headers, text: await response.text() };
}

/** Parses CSV by Python's module, which knows nothing of ours. */
function parseCsv(text: string): Record<string, string>[] {
  const script =
    "import csv,io,json,sys; print(json.dumps(list(csv.DictReader(io.StringIO(sys.stdin.read(), newline='')))))";
  return JSON.parse(execFileSync("python3", ["-X", "utf8", "-c", script], { input: text, encoding: "utf8" }));
}

test("NDJSON has the JSON of one item on each line, over all pages", async () => {
  const { headers, text } = await get("application/x-ndjson", pagesOf(nasty));
  expect(headers.get("content-type")).toBe("application/x-ndjson; charset=utf-8");
  expect(text.endsWith("\n")).toBe(true);
  const rows = text
    .trimEnd()
    .split("\n")
    .map((line): Json => JSON.parse(line));
  await server?.stop();
  const json = await get("*/*", pagesOf(nasty));
  expect(rows).toEqual(JSON.parse(json.text).rows);
  expect(rows.map((row) => row.text)).toEqual(nasty);
});

test("CSV gives every text back: a reader removes one apostrophe from the front", async () => {
  const { headers, text } = await get("text/csv", pagesOf(nasty));
  expect(headers.get("content-type")).toBe("text/csv; charset=utf-8; header=present");
  const cells = parseCsv(text).map((row) => row.text);
  expect(cells.map((cell) => cell?.replace(/^'/, ""))).toEqual(nasty);
});

test("no cell of the CSV begins like a formula, behind white space neither", async () => {
  const { text } = await get("text/csv", pagesOf(nasty, { names: { "=1": "=2" }, texts: ["=3"] }));
  const cells = parseCsv(text).flatMap((row) => Object.values(row));
  expect(cells.filter((cell) => /^[\t\r\n]|^\s*[=+\-@＝]/.test(cell))).toEqual([]);
});

test("CSV has a column for each field, with dots for nested fields and JSON for lists and maps", async () => {
  const fields = {
    number: -3,
    fraction: 0.5,
    yes: true,
    texts: ["a", 'b"'],
    names: { key: "value" },
    nested: { text: "inner", deeper: { text: "below" } },
  };
  const { text } = await get("text/csv", pagesOf(["one"], fields));
  expect(text.split("\r\n")[1]).toMatch(/^"one",-3,0,0\.5,true,"",/);
  expect(parseCsv(text)).toEqual([
    expect.objectContaining({
      number: "-3",
      texts: '["a","b\\""]',
      names: '{"key":"value"}',
      "nested.text": "inner",
      "nested.deeper": '{"text":"below","maybe":null}',
      "nested.maybe": "",
      maybe: "",
      unset: "",
    }),
  ]);
});

test.each([
  ["text/csv", /^"text","number",.*"unset"\r\n$/],
  ["application/x-ndjson", /^$/],
])("a list without items in %s has only its header", async (accept, expected) => {
  const { status, text } = await get(accept, pagesOf([]));
  expect(status).toBe(200);
  expect(text).toMatch(expected);
});

test("the response varies by Accept, and HEAD has no body", async () => {
  const { headers } = await get("application/json", pagesOf(["a"]));
  expect(headers.get("vary")).toBe("Accept");
  expect(headers.get("content-type")).toBe("application/json; charset=utf-8");
  const head = await fetch(`${server?.url}/rows`, { method: "HEAD", headers: { accept: "text/csv" } });
  expect(head.headers.get("content-type")).toMatch(/^text\/csv/);
  expect(await head.text()).toBe("");
});

test("an error before the first item is JSON, a later one cuts the connection", async () => {
  const failAfter = (count: number) => async () => {
    server = await startFixture({
      rows: async function* () {
        yield* pagesOf(nasty.slice(0, count));
        throw new ConnectError("failed", Code.InvalidArgument);
      },
    });
    return fetch(`${server.url}/rows`, { headers: { accept: "text/csv" } });
  };
  const early = await failAfter(0)();
  expect([early.status, early.headers.get("content-type")]).toEqual([400, "application/json; charset=utf-8"]);
  await early.text();
  await server?.stop();
  await expect(failAfter(3)().then((response) => response.text())).rejects.toThrow();
});

const offered = ["application/json", "text/csv", "application/x-ndjson"] as const;
test.each([
  [null, "application/json"],
  ["", "application/json"],
  ["*/*", "application/json"],
  ["text/csv", "text/csv"],
  ["Text/CSV; header=present", "text/csv"],
  ["text/*", "text/csv"],
  ["text/csv, */*", "text/csv"],
  ["application/json, text/csv", "application/json"],
  ["text/csv, application/json", "text/csv"],
  ["application/json;q=0.5, application/x-ndjson", "application/x-ndjson"],
  ["text/csv;q=0, */*", "application/json"],
  ["application/json;q=0, */*;q=0.1", "text/csv"],
  ["text/csv;q=2, application/x-ndjson;q=0.001", "application/x-ndjson"],
  ["text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "application/json"],
  ["image/png", "application/json"],
])("of JSON, CSV and NDJSON, the header Accept %j prefers %s", (accept, type) => {
  expect(preferredType(accept, offered)).toBe(type);
});
