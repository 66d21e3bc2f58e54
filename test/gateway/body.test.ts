import { afterAll, beforeAll, expect, test } from "vitest";
import { type FixtureServer, startFixture } from "./fixture.ts";

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
    duration: "3s",
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

test.each([
  ["text/plain", 415],
  ["application/x-www-form-urlencoded", 415],
  ["application/json; charset=latin1", 415],
  ["application/jsonp", 415],
  ["application/json", 200],
  ['Application/JSON; charset="UTF-8"', 200],
])("a body of the type %s is %i", async (type, status) => {
  expect((await server.call("POST", "/single/a", {}, { "content-type": type })).status).toBe(status);
});

test("a compressed body is 415", async () => {
  expect((await server.call("POST", "/single/a", {}, { "content-encoding": "gzip" })).status).toBe(415);
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

test("an operation without a body refuses one", async () => {
  expect((await server.call("DELETE", "/nothing", {})).status).toBe(400);
  expect((await server.call("DELETE", "/nothing")).status).toBe(204);
});
