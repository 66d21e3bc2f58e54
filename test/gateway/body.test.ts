import { once } from "node:events";
import { connect } from "node:net";
import { gzipSync } from "node:zlib";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type FixtureServer, startFixture } from "./fixture.ts";

const timeRule = "must be a valid RFC 3339 time, such as 2024-02-29T09:30:00Z";

let server: FixtureServer;
beforeAll(async () => {
  server = await startFixture();
});
afterAll(() => server.stop());

test("reads its own output: null wrappers, written defaults, absent fields", async () => {
  const whole = {
    text: "a",
    number: -1,
    long_number: 5,
    fraction: 0.5,
    yes: true,
    data: "AQI=",
    color: "RED",
    texts: ["x"],
    colors: ["GREEN"],
    nested: { text: "n", maybe: null },
    nests: [{ text: "m", maybe: "yes" }],
    names: { a: "b" },
    time: "2024-02-21T06:30:00Z",
    duration: "PT3S",
    mask: "text",
    maybe: null,
  };
  expect((await server.call("POST", "/single/a", whole)).body).toEqual(whole);
});

test("reads enum numbers, both spellings of names, and null", async () => {
  const { body } = await server.call("POST", "/single/a", { color: 2, longNumber: "7", maybe: null, unset: 0 });
  expect(body).toMatchObject({ color: "GREEN", long_number: 7, maybe: null, unset: 0 });
});

test.each([
  ['{"unknown":1}', ["unknown"]],
  ['{"nested":{"deeper":{"unknown":1}}}', ["nested.deeper.unknown"]],
  ['{"nests":[{},{"unknown":1}]}', ["nests[1].unknown"]],
  ['{"unknown":1,"nested":{"other":2}}', ["unknown", "nested.other"]],
  ['{"long_number":1,"longNumber":1}', ["longNumber"]],
  ['{"text":"a","text":"a"}', ["text"]],
  [String.raw`{"text":"a","t\u0065xt":"a"}`, ["text"]],
  ['{"nests":[{"text":"a"},{"text":"b","text":"c"}]}', ["nests[1].text"]],
  ['{"names":{"a":"b","a":"c"}}', ["names.a"]],
  ['{"number":"five"}', ["number"]],
  ['{"nested":{"text":5}}', ["nested.text"]],
  ['{"nests":[{"text":"a"},{"text":5}]}', ["nests[1].text"]],
  ['{"nests":[{"deeper":{"text":"a"}},{"deeper":{"text":5}}]}', ["nests[1].deeper.text"]],
  ['{"texts":["a",5]}', ["texts[1]"]],
  ['{"colors":["RED","BLUE"]}', ["colors[1]"]],
  ['{"names":{"a":"b","c":5}}', ["names.c"]],
  ['{"long_number":9007199254740993}', ["long_number"]],
  ['{"long_number":0.5}', ["long_number"]],
  ['{"nests":{}}', ["nests"]],
  ['{"nests":[null]}', ["nests[0]"]],
  ['{"nested":[]}', ["nested"]],
  ['{"color":"BLUE"}', ["color"]],
  ['{"time":"yesterday"}', ["time"]],
  ['{"__proto__":{}}', ["__proto__"]],
  ["[]", [""]],
  ["null", [""]],
  ["", [""]],
  ['{"text":"a"', [""]],
  ['{"text":"a"} {}', [""]],
])("the body %s is a 400 that names %o", async (body, fields) => {
  const response = await server.call("POST", "/single/a", body);
  expect([response.status, response.body.fields]).toEqual([400, fields]);
});

test("does not mistake text in strings for structure", async () => {
  const text = String.raw`{"text":"a\"},{\\","texts":["{\"a\":1,\"a\":2}","[[[[[[[[[[","\\"]}`;
  const { status, body } = await server.call(
    "POST",
    String.raw`/single/${encodeURIComponent(String.raw`a"},{\ `.trim())}`,
    text,
  );
  expect([status, body.texts]).toEqual([200, ['{"a":1,"a":2}', "[[[[[[[[[[", "\\"]]);
});

test("refuses JSON that nests too deep or has too many values", async () => {
  const deep = await server.call("POST", "/single/a", `${'{"nested":'.repeat(9)}{}${"}".repeat(9)}`);
  expect([deep.status, deep.body.message]).toEqual([
    400,
    expect.stringContaining("must not nest deeper than 8 levels"),
  ]);
  const many = await server.call(
    "POST",
    "/single/a",
    `{"texts":[${Array.from({ length: 1001 }, () => '""').join(",")}]}`,
  );
  expect([many.status, many.body.message]).toEqual([400, "the body must hold at most 1000 values"]);
});

test("a REQUIRED field must be set, but may be zero", async () => {
  const missing = await server.call("POST", "/strict", { items: [{ size: 1 }, {}] });
  expect([missing.status, missing.body.fields]).toEqual([400, ["items[1].size", "name"]]);
  const zero = await server.call("POST", "/strict", { name: "", items: [{ size: 0 }] });
  expect([zero.status, zero.body]).toEqual([201, { name: "", items: [{ size: 0 }] }]);
});

test("null does not set a REQUIRED field, and the body may leave out one that the path sets", async () => {
  const missing = await server.call("POST", "/strict", { name: null, items: [] });
  expect([missing.status, missing.body.fields]).toEqual([400, ["name"]]);
  expect((await server.call("PUT", "/strict/a", { items: [] })).body).toEqual({ name: "a", items: [] });
  const other = await server.call("PUT", "/strict/a", { name: "", items: [] });
  expect([other.status, other.body.fields]).toEqual([400, ["name"]]);
});

test("64-bit integers in lists, maps and wrappers are numbers up to 2^53 and strings beyond", async () => {
  const rare = { longs: { a: 1, b: "9007199254740993" }, long: 2, numbers: [3], answers: [true], data: "" };
  expect((await server.call("POST", "/rare", rare)).body).toEqual(rare);
  const { body } = await server.call("POST", "/rare", '{"longs":{"a":1e17},"long":1e17,"numbers":[1,1e17]}');
  expect(body.fields).toEqual(["longs.a", "long", "numbers[1]"]);
});

test("reads and writes one member of a oneof", async () => {
  const { body } = await server.call("POST", "/rare", { middle: "" });
  expect(body).toEqual({ longs: {}, long: null, numbers: [], answers: [], middle: "", data: "" });
  const both = await server.call("POST", "/rare", { left: "", right: {} });
  expect([both.status, both.body.fields]).toEqual([400, ["right"]]);
});

test("compares bytes in path and body by value", async () => {
  expect((await server.call("POST", "/rare/AQI=", { data: "AQI" })).status).toBe(200);
  const other = await server.call("POST", "/rare/AQI=", { data: "AQM=" });
  expect([other.status, other.body.fields]).toEqual([400, ["data"]]);
});

test("a body field may be a message with a special JSON form", async () => {
  expect((await server.call("PUT", "/time", '"2024-02-21T06:30:00Z"')).body.time).toBe("2024-02-21T06:30:00Z");
  const bad = await server.call("PUT", "/time", '"yesterday"');
  expect([bad.status, bad.body.message]).toEqual([400, timeRule]);
});

test.each([
  [{ number: "five" }, "number: must be an integer from -2147483648 to 2147483647"],
  [{ texts: ["a", 5] }, "texts[1]: must be a string"],
  [{ time: "yesterday" }, `time: ${timeRule}`],
  [{ duration: "two hours" }, "duration: must be a duration in seconds or ISO 8601, such as 90.5s or PT1M30.5S"],
  [{ colors: ["BLUE"] }, "colors[0]: must be one of RED, GREEN"],
  [{ colors: "RED" }, "colors: must be a list"],
  [{ nested: 5 }, "nested: must be an object"],
])("the error for the body %o is: %s", async (body, message) => {
  expect((await server.call("POST", "/single/a", body)).body.message).toBe(message);
});

test.each([
  ["text/plain", 415],
  ["application/x-www-form-urlencoded", 415],
  ["application/json; charset=latin1", 415],
  ["application/jsonp", 415],
  ["application/json", 200],
  ['Application/JSON; charset="UTF-8"', 200],
  ["application/json; foo=bar", 200],
  ["application/json;", 200],
  ["application/json;\tcharset=utf-8", 200],
  ["application/json; charset=us-ascii", 200],
  ["application/json; charset=utf8; x=y", 200],
  ['application/json; x="a;charset=latin1', 415],
  ["application/json charset=utf-8", 415],
])("a body of type %s is %i", async (type, status) => {
  expect((await server.call("POST", "/single/a", {}, { "content-type": type })).status).toBe(status);
});

test("an unsupported content coding is a 415 that lists the accepted ones", async () => {
  for (const coding of ["br", "gzip, gzip", "deflate"]) {
    const { status, headers } = await server.call("POST", "/single/a", {}, { "content-encoding": coding });
    expect([status, headers.get("accept-encoding")]).toEqual([415, "gzip, identity"]);
  }
  expect((await server.call("POST", "/single/a", {}, { "content-encoding": "Identity" })).status).toBe(200);
});

test("reads a gzip body within the limit, and a gzip bomb is a 413", async () => {
  const post = async (body: Uint8Array<ArrayBuffer>, coding = "gzip") => {
    const headers = { "content-type": "application/json", "content-encoding": coding };
    const response = await fetch(`${server.url}/single/a`, { method: "POST", headers, body });
    return [response.status, await response.text()];
  };
  const packed = new Uint8Array(gzipSync('{"number":7}'));
  // Compressed first: under load this blocks for longer than an idle connection stays open.
  const bomb = new Uint8Array(gzipSync(" ".repeat(50_000_000)));
  expect(await post(packed)).toEqual([200, expect.stringContaining('"number":7')]);
  expect((await post(packed, "X-GZIP"))[0]).toBe(200);
  expect((await post(packed.slice(0, -9)))[0]).toBe(400);
  expect((await post(new Uint8Array(Buffer.from("{}"))))[0]).toBe(400);
  expect((await post(bomb))[0]).toBe(413);
});

test("a body that is not UTF-8 is 400", async () => {
  const headers = { "content-type": "application/json" };
  const response = await fetch(`${server.url}/single/a`, {
    method: "POST",
    headers,
    body: Buffer.from([0x22, 0xff, 0x22]),
  });
  expect(response.status).toBe(400);
});

test("a body beyond the limit is a 413, with and without Content-Length", async () => {
  const large = JSON.stringify({ text: "x".repeat(100_000) });
  expect((await server.call("POST", "/single/a", large)).status).toBe(413);
  const response = await fetch(`${server.url}/single/a`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: new Blob([large]).stream(),
    duplex: "half",
  });
  expect(response.status).toBe(413);
});

test("a caller that keeps sending a body beyond the limit can read the response before the connection ends", async () => {
  const socket = connectTo(server.url);
  socket.write("POST /single/a HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n");
  socket.write("transfer-encoding: chunked\r\n\r\n");
  const chunk = `8000\r\n${"x".repeat(0x8000)}\r\n`;
  let response = "";
  socket.on("data", (part) => {
    response += String(part);
  });
  for (let sent = 0; sent < 200; sent += 1) if (!socket.write(chunk)) await once(socket, "drain");
  socket.write("0\r\n\r\n");
  await once(socket, "close");
  expect(response).toMatch(/^HTTP\/1.1 413 [^]*connection: close[^]*at most 100000 bytes.*\}$/i);
});

test("an operation without a body refuses a body of any type, but accepts an empty one", async () => {
  expect((await server.call("DELETE", "/nothing", {})).status).toBe(400);
  expect((await server.call("DELETE", "/nothing", "x", { "content-type": "text/plain" })).status).toBe(400);
  expect((await server.call("DELETE", "/nothing")).status).toBe(204);
  expect(await statusOf("GET /query", "transfer-encoding: chunked", "2\r\n{}\r\n0\r\n\r\n")).toBe(400);
  expect(await statusOf("GET /query", "transfer-encoding: chunked", "0\r\n\r\n")).toBe(200);
});

test("the connection of a refused body serves the next request", async () => {
  const large = await startFixture({}, { maxBodyBytes: () => 10_000_000 });
  const socket = connectTo(large.url);
  const body = "x".repeat(5_000_000);
  socket.write(`DELETE /nothing HTTP/1.1\r\nhost: x\r\ncontent-length: ${body.length}\r\n\r\n${body}`);
  const [refused] = await once(socket, "data");
  expect(String(refused)).toMatch(/^HTTP\/1.1 400 /);
  socket.write("DELETE /nothing HTTP/1.1\r\nhost: x\r\n\r\n");
  const [next] = await once(socket, "data");
  expect(String(next)).toMatch(/^HTTP\/1.1 204 /);
  socket.destroy();
  await large.stop();
});

test("stops waiting for a body at the caller's deadline", async () => {
  const header = "content-type: application/json\r\ncontent-length: 10\r\nconnect-timeout-ms: 50";
  expect(await statusOf("POST /single/a", header, "{")).toBe(504);
});

test("a missing body is a 400", async () => {
  const { status, body } = await server.call("POST", "/single/a");
  expect([status, body.message]).toEqual([400, "the body must be JSON and must not be empty"]);
});

async function statusOf(request: string, header: string, body: string): Promise<number> {
  const socket = connectTo(server.url);
  socket.write(`${request} HTTP/1.1\r\nhost: x\r\n${header}\r\n\r\n${body}`);
  const [head] = await once(socket, "data");
  socket.destroy();
  return Number(String(head).split(" ")[1]);
}

function connectTo(url: string) {
  const { hostname, port } = new URL(url);
  return connect(Number(port), hostname);
}
