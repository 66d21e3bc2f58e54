import { once } from "node:events";
import { connect } from "node:net";
import { gzipSync } from "node:zlib";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type FixtureServer, startFixture } from "./fixture.ts";

const timeRule = "must be an existing time in the form of RFC 3339, such as 2024-02-29T09:30:00Z";

let server: FixtureServer;
beforeAll(async () => {
  server = await startFixture();
});
afterAll(() => server.stop());

test("reads what it writes, with nulls for wrappers, defaults written out and the unset left out", async () => {
  const whole = {
    text: "a",
    number: -1,
    long_number: 5,
    fraction: 0.5,
    yes: true,
    data: "AQI=",
    colour: "RED",
    texts: ["x"],
    colours: ["GREEN"],
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

test("enums by number, both spellings and null for the unset are read", async () => {
  const { body } = await server.call("POST", "/single/a", { colour: 2, longNumber: "7", maybe: null, unset: 0 });
  expect(body).toMatchObject({ colour: "GREEN", long_number: 7, maybe: null, unset: 0 });
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
  ['{"colours":["RED","BLUE"]}', ["colours[1]"]],
  ['{"names":{"a":"b","c":5}}', ["names.c"]],
  ['{"long_number":9007199254740993}', ["long_number"]],
  ['{"long_number":0.5}', ["long_number"]],
  ['{"nests":{}}', ["nests"]],
  ['{"nests":[null]}', ["nests[0]"]],
  ['{"nested":[]}', ["nested"]],
  ['{"colour":"BLUE"}', ["colour"]],
  ['{"time":"yesterday"}', ["time"]],
  ['{"__proto__":{}}', ["__proto__"]],
  ["[]", [""]],
  ["null", [""]],
  ["", [""]],
  ['{"text":"a"', [""]],
  ['{"text":"a"} {}', [""]],
])("the body %s is a 400 that names %o", async (body, fields) => {
  const answer = await server.call("POST", "/single/a", body);
  expect([answer.status, answer.body.fields]).toEqual([400, fields]);
});

test("text in strings is not mistaken for structure", async () => {
  const text = String.raw`{"text":"a\"},{\\","texts":["{\"a\":1,\"a\":2}","[[[[[[[[[[","\\"]}`;
  const { status, body } = await server.call(
    "POST",
    String.raw`/single/${encodeURIComponent(String.raw`a"},{\ `.trim())}`,
    text,
  );
  expect([status, body.texts]).toEqual([200, ['{"a":1,"a":2}', "[[[[[[[[[[", "\\"]]);
});

test("what nests too deep or holds too much is refused before it is parsed", async () => {
  const deep = await server.call("POST", "/single/a", `${'{"nested":'.repeat(9)}{}${"}".repeat(9)}`);
  expect([deep.status, deep.body.message]).toEqual([400, expect.stringContaining("nests deeper than 8 levels")]);
  const many = await server.call(
    "POST",
    "/single/a",
    `{"texts":[${Array.from({ length: 1001 }, () => '""').join(",")}]}`,
  );
  expect([many.status, many.body.message]).toEqual([400, "the body holds more than 1000 values"]);
});

test("a REQUIRED field must be in the body, though its value may be its zero", async () => {
  const missing = await server.call("POST", "/strict", { items: [{ size: 1 }, {}] });
  expect([missing.status, missing.body.fields]).toEqual([400, ["items[1].size", "name"]]);
  const zero = await server.call("POST", "/strict", { name: "", items: [{ size: 0 }] });
  expect([zero.status, zero.body]).toEqual([201, { name: "", items: [{ size: 0 }] }]);
});

test("a REQUIRED field is not there by a null, and need not be where the path has it", async () => {
  const missing = await server.call("POST", "/strict", { name: null, items: [] });
  expect([missing.status, missing.body.fields]).toEqual([400, ["name"]]);
  expect((await server.call("PUT", "/strict/a", { items: [] })).body).toEqual({ name: "a", items: [] });
  const other = await server.call("PUT", "/strict/a", { name: "", items: [] });
  expect([other.status, other.body.fields]).toEqual([400, ["name"]]);
});

test("64-bit integers are numbers in lists, maps and wrappers too, and strings beyond 2^53", async () => {
  const rare = { longs: { a: 1, b: "9007199254740993" }, long: 2, numbers: [3], answers: [true], data: "" };
  expect((await server.call("POST", "/rare", rare)).body).toEqual(rare);
  const { body } = await server.call("POST", "/rare", '{"longs":{"a":1e17},"long":1e17,"numbers":[1,1e17]}');
  expect(body.fields).toEqual(["longs.a", "long", "numbers[1]"]);
});

test("of a oneof one member is written and read", async () => {
  const { body } = await server.call("POST", "/rare", { middle: "" });
  expect(body).toEqual({ longs: {}, long: null, numbers: [], answers: [], middle: "", data: "" });
  const both = await server.call("POST", "/rare", { left: "", right: {} });
  expect([both.status, both.body.fields]).toEqual([400, ["right"]]);
});

test("bytes in path and body are compared by what they are", async () => {
  expect((await server.call("POST", "/rare/AQI=", { data: "AQI" })).status).toBe(200);
  const other = await server.call("POST", "/rare/AQI=", { data: "AQM=" });
  expect([other.status, other.body.fields]).toEqual([400, ["data"]]);
});

test("a body field may be a message with a form of its own", async () => {
  expect((await server.call("PUT", "/time", '"2024-02-21T06:30:00Z"')).body.time).toBe("2024-02-21T06:30:00Z");
  const bad = await server.call("PUT", "/time", '"yesterday"');
  expect([bad.status, bad.body.message]).toEqual([400, timeRule]);
});

test.each([
  [{ number: "five" }, "number: must be an integer from -2147483648 to 2147483647"],
  [{ texts: ["a", 5] }, "texts[1]: must be a string"],
  [{ time: "yesterday" }, `time: ${timeRule}`],
  [{ duration: "two hours" }, "duration: must be a duration in seconds or of ISO 8601, such as 90.5s or PT1M30.5S"],
  [{ colours: ["BLUE"] }, "colours[0]: must be one of RED, GREEN"],
  [{ colours: "RED" }, "colours: must be a list"],
  [{ nested: 5 }, "nested: must be an object"],
])("the body %o is told to be wrong in words: %s", async (body, message) => {
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
])("a body of the type %s is %i", async (type, status) => {
  expect((await server.call("POST", "/single/a", {}, { "content-type": type })).status).toBe(status);
});

test("a body of another content coding is a 415 that names the accepted ones", async () => {
  for (const coding of ["br", "gzip, gzip", "deflate"]) {
    const { status, headers } = await server.call("POST", "/single/a", {}, { "content-encoding": coding });
    expect([status, headers.get("accept-encoding")]).toEqual([415, "gzip, identity"]);
  }
  expect((await server.call("POST", "/single/a", {}, { "content-encoding": "Identity" })).status).toBe(200);
});

test("a gzip body is read within the limit, and a bomb is a 413", async () => {
  const post = async (body: Uint8Array<ArrayBuffer>, coding = "gzip") => {
    const headers = { "content-type": "application/json", "content-encoding": coding };
    const response = await fetch(`${server.url}/single/a`, { method: "POST", headers, body });
    return [response.status, await response.text()];
  };
  const packed = new Uint8Array(gzipSync('{"number":7}'));
  expect(await post(packed)).toEqual([200, expect.stringContaining('"number":7')]);
  expect((await post(packed, "X-GZIP"))[0]).toBe(200);
  expect((await post(packed.slice(0, -9)))[0]).toBe(400);
  expect((await post(new Uint8Array(Buffer.from("{}"))))[0]).toBe(400);
  expect((await post(new Uint8Array(gzipSync(" ".repeat(50_000_000)))))[0]).toBe(413);
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

test("a body beyond the limit is 413, whether its length is announced or not", async () => {
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

test("who still sends a body beyond the limit can read the answer before the connection ends", async () => {
  const socket = connectTo(server.url);
  socket.write("POST /single/a HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n");
  socket.write("transfer-encoding: chunked\r\n\r\n");
  const chunk = `8000\r\n${"x".repeat(0x8000)}\r\n`;
  let answer = "";
  socket.on("data", (part) => {
    answer += String(part);
  });
  for (let sent = 0; sent < 200; sent += 1) if (!socket.write(chunk)) await once(socket, "drain");
  socket.write("0\r\n\r\n");
  await once(socket, "close");
  expect(answer).toMatch(/^HTTP\/1.1 413 [^]*connection: close[^]*larger than 100000 bytes.*\}$/i);
});

test("an operation without a body refuses one, whatever its type, and takes an empty one", async () => {
  expect((await server.call("DELETE", "/nothing", {})).status).toBe(400);
  expect((await server.call("DELETE", "/nothing", "x", { "content-type": "text/plain" })).status).toBe(400);
  expect((await server.call("DELETE", "/nothing")).status).toBe(204);
  expect(await statusOf("GET /query", "transfer-encoding: chunked", "2\r\n{}\r\n0\r\n\r\n")).toBe(400);
  expect(await statusOf("GET /query", "transfer-encoding: chunked", "0\r\n\r\n")).toBe(200);
});

test("a body that was refused does not stand in the way of the next request on its connection", async () => {
  const roomy = await startFixture({}, { maxBodyBytes: () => 10_000_000 });
  const socket = connectTo(roomy.url);
  const body = "x".repeat(5_000_000);
  socket.write(`DELETE /nothing HTTP/1.1\r\nhost: x\r\ncontent-length: ${body.length}\r\n\r\n${body}`);
  const [refused] = await once(socket, "data");
  expect(String(refused)).toMatch(/^HTTP\/1.1 400 /);
  socket.write("DELETE /nothing HTTP/1.1\r\nhost: x\r\n\r\n");
  const [answered] = await once(socket, "data");
  expect(String(answered)).toMatch(/^HTTP\/1.1 204 /);
  socket.destroy();
  await roomy.stop();
});

test("a body that does not come is not waited for beyond the deadline", async () => {
  const header = "content-type: application/json\r\ncontent-length: 10\r\nconnect-timeout-ms: 50";
  expect(await statusOf("POST /single/a", header, "{")).toBe(504);
});

test("an operation with a body needs one", async () => {
  const { status, body } = await server.call("POST", "/single/a");
  expect([status, body.message]).toEqual([400, "a JSON body is required"]);
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
