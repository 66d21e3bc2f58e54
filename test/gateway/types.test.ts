import { afterAll, beforeAll, expect, test } from "vitest";
import { type FixtureServer, file, services, startFixture } from "./fixture.ts";

let server: FixtureServer;
beforeAll(async () => {
  server = await startFixture();
});
afterAll(() => server.stop());

test.each([
  { sent: '{"float_value":3.4028235e+38}', read: { float_value: 3.4028234663852886e38 } },
  { sent: '{"float_value":"-3.4028235e+38"}', read: { float_value: -3.4028234663852886e38 } },
  { sent: '{"floats":[3.4028235e+38,"NaN"]}', read: { floats: [3.4028234663852886e38, "NaN"] } },
  { sent: '{"float_wrapper":"3.4028235e+38"}', read: { float_wrapper: 3.4028234663852886e38 } },
  { sent: '{"double_value":"-Infinity"}', read: { double_value: "-Infinity" } },
  {
    sent: '{"int64_value":"1e2","uint64_value":"1.0","sint64_value":"-12.50e1"}',
    read: { int64_value: 100, uint64_value: 1, sint64_value: -125 },
  },
  {
    sent: '{"int32_value":"1e2","uint64s":["18446744073709551615","0e99999"]}',
    read: { int32_value: 100, uint64s: ["18446744073709551615", 0] },
  },
  { sent: '{"int64_value":1e2,"int32_value":1.0}', read: { int64_value: 100, int32_value: 1 } },
  { sent: '{"double_value":9007199254740991.4}', read: { double_value: 9007199254740991 } },
  { sent: '{"int64_wrapper":"9007199254740993"}', read: { int64_wrapper: "9007199254740993" } },
  {
    sent: '{"bytes_value":"AQ","bytes_list":["_-8=","","AQI","AQIDBA=="]}',
    read: { bytes_value: "AQ==", bytes_list: ["/+8=", "", "AQI=", "AQIDBA=="] },
  },
  { sent: '{"timestamp":"2024-02-29T23:59:59.5-00:30"}', read: { timestamp: "2024-03-01T00:29:59.500Z" } },
  { sent: '{"timestamp":"0001-01-01T00:00:00Z"}', read: { timestamp: "0001-01-01T00:00:00Z" } },
  { sent: '{"timestamp":"9999-12-31T23:59:59.999999999Z"}', read: { timestamp: "9999-12-31T23:59:59.999999999Z" } },
  { sent: '{"duration":"-0.5s"}', read: { duration: "-PT0.500S" } },
  { sent: '{"duration":"PT1H30M"}', read: { duration: "PT1H30M" } },
  { sent: '{"duration":"P1WT0.5S"}', read: { duration: "PT168H0.500S" } },
  { sent: '{"duration":"-P1DT1M1,25S"}', read: { duration: "-PT24H1M1.250S" } },
  { sent: '{"durations":["315576000000s","PT0S"]}', read: { durations: ["PT87660000H", "PT0S"] } },
  { sent: '{"value":null}', read: { value: null } },
  { sent: '{"values":[null,{"a":[null,1]}]}', read: { values: [null, { a: [null, 1] }] } },
  { sent: '{"null_choice":null}', read: { null_choice: null } },
  { sent: '{"value_choice":null}', read: { value_choice: null } },
  { sent: '{"string_choice":"a","wrapper_choice":null,"message_choice":null}', read: { string_choice: "a" } },
  {
    sent: '{"by_int64":{"-9223372036854775808":"a"},"by_bool":{"true":1}}',
    read: { by_int64: { "-9223372036854775808": "a" }, by_bool: { true: 1 } },
  },
  { sent: '{"empty":{}}', read: { empty: {} } },
])("reads the body $sent as $read", async ({ sent, read }) => {
  const { status, body } = await server.call("POST", "/types", sent);
  expect([status, body]).toEqual([200, expect.objectContaining(read)]);
});

test.each([
  ...["2026-09-31T00:00:00Z", "2023-02-29T00:00:00Z", "2100-02-29T00:00:00Z", "2024-01-01T24:00:00Z"].map((time) => [
    "timestamp",
    time,
  ]),
  ...["2024-01-01T23:59:60Z", "2024-00-01T00:00:00Z", "2024-01-01T00:00:00+24:00", "2024-01-01T00:00:00+00:60"].map(
    (time) => ["timestamp", time],
  ),
  ...["0001-01-01T00:00:00+00:01", "2024-01-01t00:00:00z", "2024-01-01 00:00:00Z", "2024-01-01T00:00:00"].map(
    (time) => ["timestamp", time],
  ),
  ...["1sjunk", "1.5s2s", "5s30m", "90s ago", " 1s", "+1s", "1.s", ".5s", "1", "1.0000000001s", "315576000000.5s"].map(
    (text) => ["duration", text],
  ),
  ...["P1Y", "P1M", "P", "PT", "P1DT", "PT1", "P1H", "pt1s", "PT1.5M", "PT1S "].map((text) => ["duration", text]),
  ...["0x10", "0b11", " 1", "+1", "+3", "", "1.5", "1e-1", "9223372036854775808", "1e999999999", "1_0", "٣"].map(
    (text) => ["int64_value", text],
  ),
  ...["0x10", " 1", "+1", "", "2147483648"].map((text) => ["int32_value", text]),
  ...["-1", "18446744073709551616"].map((text) => ["uint64_value", text]),
  ...["0x10", "0b11", " 1", "1e400", "", "inf", "nan"].map((text) => ["double_value", text]),
  ...["3.41e38", "-1e39"].map((text) => ["float_value", text]),
  ...["A==", "==", "A Q", "AQ==AQ==", "AQ=", "A", "=", "AQI==", "AQ\n", "A*"].map((text) => ["bytes_value", text]),
  ...["A==", "A Q"].map((text) => ["bytes_wrapper", text]),
  ...["0x10", "1.5"].map((text) => ["int64_wrapper", text]),
  ["enum_value", "1"],
  ["field_mask", "a_b"],
  ["string_value", "\uD800"],
])("the field %s with the value %o is a 400 that names it", async (field, value) => {
  const { status, body } = await server.call("POST", "/types", JSON.stringify({ [field]: value }));
  expect([status, body.fields]).toEqual([400, [field]]);
  // The value may be a secret that was sent in the wrong field.
  expect(body.message).not.toContain(JSON.stringify(value));
});

test.each([
  ['{"by_int32":{"0x10":1}}', ["by_int32.0x10"]],
  ['{"by_int64":{" 1":"a"}}', ["by_int64. 1"]],
  ['{"by_int64":{"+1":"a"}}', ["by_int64.+1"]],
  ['{"by_uint64":{"-1":true}}', ["by_uint64.-1"]],
  ['{"by_int64":{"1":"a","01":"b"}}', ["by_int64.01"]],
  ['{"by_bool":{"TRUE":1}}', ["by_bool.TRUE"]],
  ['{"double_value":1e400}', ["double_value"]],
  ['{"value":1e400}', ["value"]],
  ['{"struct":{"a":[1e400]}}', ["struct.a[0]"]],
  ['{"int64_wrapper":9007199254740993}', ["int64_wrapper"]],
  // JSON.parse rounds them to integers.
  ['{"double_value":1.00000000000000001,"int64_wrapper":9007199254740991.4}', ["int64_wrapper"]],
  ['{"int32_value":1.00000000000000001e0}', ["int32_value"]],
  ['{"int64_wrappers":[1,null]}', ["int64_wrappers[1]"]],
  ['{"string_choice":"a","value_choice":null}', ["value_choice"]],
  [
    '{"timestamp":"x","duration":5,"messages":{"a":{"floats":["x",1,"y"]}}}',
    ["timestamp", "duration", "messages.a.floats[0]", "messages.a.floats[2]"],
  ],
  ['{"empty":{"a":1}}', ["empty.a"]],
  ['{"any":{"@type":"type.googleapis.com/fixture.Nested"}}', ["any.@type"]],
])("the body %s is a 400 that names %o", async (sent, fields) => {
  const { status, body } = await server.call("POST", "/types", sent);
  expect([status, body.fields]).toEqual([400, fields]);
});

test("reads a wrapper body exactly, refuses it, or unsets it by null", async () => {
  const put = async (path: string, sent: string) =>
    (await server.call("PUT", path, sent)) as { status: number; body: Record<string, unknown> };
  expect((await put("/types/int64", '"9007199254740993"')).body.int64_wrapper).toBe("9007199254740993");
  expect((await put("/types/int64", "9007199254740993")).status).toBe(400);
  expect((await put("/types/int64", "9007199254740991.4")).status).toBe(400);
  expect((await put("/types/string", "null")).body.string_wrapper).toBe(null);
  expect((await put("/types/string", '""')).body.string_wrapper).toBe("");
  expect((await put("/types/value", "null")).body).toHaveProperty("value", null);
});

test.each([
  ["/types?double_value=NaN", { double_value: "NaN" }],
  ["/types?double_value=Infinity&float_value=-Infinity", { double_value: "Infinity", float_value: "-Infinity" }],
  ["/types/double/-Infinity", { double_value: "-Infinity" }],
  ["/types/float/3.4028235e+38", { float_value: 3.4028234663852886e38 }],
  ["/types?float_value=3.4028235e%2B38", { float_value: 3.4028234663852886e38 }],
  ["/types/int64/1e2", { int64_value: 100 }],
  ["/types?duration=PT1M", { duration: "PT1M" }],
  ["/types?floats=NaN&floats=1", { floats: ["NaN", 1] }],
])("reads GET %s as %o", async (path, read) => {
  const { status, body } = await server.call("GET", path);
  expect([status, body]).toEqual([200, expect.objectContaining(read)]);
});

test("keeps the key __proto__ of a map or a Struct", async () => {
  const text = [
    '{"strings":{"__proto__":"a","b":"c"}',
    '"messages":{"__proto__":{"int32_value":7}}',
    '"struct":{"__proto__":{"__proto__":1},"a":{"__proto__":null}}',
    '"value":{"__proto__":{"x":1}}',
    '"structs":[{"__proto__":2}]',
    '"structs_by_name":{"__proto__":{"__proto__":[{"__proto__":3}]}}}',
  ].join(",");
  const response = await fetch(`${server.url}/types`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: text,
  });
  expect(response.status).toBe(200);
  const received = JSON.parse(await response.text()) as Record<string, Record<string, unknown>>;
  const sent = JSON.parse(text) as typeof received;
  expect(entries(received.strings)).toEqual(entries(sent.strings));
  for (const field of ["struct", "value", "structs", "structs_by_name"]) {
    expect(entries(received[field])).toEqual(entries(sent[field]));
  }
  const [[key, message] = []] = Object.entries(received.messages ?? {});
  expect([key, message]).toEqual(["__proto__", expect.objectContaining({ int32_value: 7 })]);
});

test("an Any may contain types of the registry, and a response has the bytes of other types", async () => {
  const any = (name: string, value: Uint8Array) => ({
    $typeName: "google.protobuf.Any",
    typeUrl: `type.googleapis.com/${name}`,
    value,
  });
  const registered = await startFixture(
    { part: async () => ({ $typeName: "fixture.WithFile" }), query: async (request) => request },
    { registry: services },
  );
  const sent = {
    any: { "@type": "type.googleapis.com/fixture.Types", int64_value: "1e2", string_wrapper: "a" },
    anys: [{}, { "@type": "x/google.protobuf.Duration", value: "PT1M" }, { "@type": "/fixture.Nested", text: "a" }],
  };
  const { status, body } = await registered.call("POST", "/types", sent);
  expect([status, body.any]).toEqual([
    200,
    expect.objectContaining({ "@type": sent.any["@type"], int64_value: 100, string_wrapper: "a" }),
  ]);
  expect(body.anys).toEqual([
    {},
    { "@type": "type.googleapis.com/google.protobuf.Duration", value: "PT1M" },
    { "@type": "type.googleapis.com/fixture.Nested", text: "a", maybe: null },
  ]);
  const bad = await registered.call("POST", "/types", {
    any: { "@type": "/fixture.Nested", text: 5 },
    anys: [{ "@type": "/google.protobuf.Duration" }],
  });
  expect([bad.status, bad.body.fields]).toEqual([400, ["any.text", "anys[0].value"]]);
  await registered.stop();

  const responding = await startFixture({
    echoTypes: async (request) => ({
      ...request,
      any: any("unknown.Type", Uint8Array.of(1, 2)),
      anys: [any("", new Uint8Array())],
    }),
  });
  const unknown = await responding.call("GET", "/types");
  expect([unknown.status, unknown.body.any]).toEqual([
    200,
    { "@type": "type.googleapis.com/unknown.Type", value: "AQI=" },
  ]);
  await responding.stop();
});

test("a response_body that is a file is sent with its type", async () => {
  const files = await startFixture({
    part: async ({ text }) => ({
      $typeName: "fixture.WithFile",
      ...(text === "" && { file: file("image/png", Uint8Array.of(0, 255)) }),
    }),
  });
  const response = await fetch(`${files.url}/part`);
  expect([response.headers.get("content-type"), response.headers.get("content-length")]).toEqual(["image/png", "2"]);
  expect(new Uint8Array(await response.arrayBuffer())).toEqual(Uint8Array.of(0, 255));
  const unset = await fetch(`${files.url}/part?text=none`);
  expect([unset.status, await unset.text()]).toEqual([200, ""]);
  await files.stop();
});

/** All keys and values, including "__proto__", which toEqual does not compare. */
function entries(value: unknown): unknown {
  if (Array.isArray(value)) return value.map((item) => entries(item));
  if (typeof value !== "object" || value === null) return value;
  return Object.entries(value)
    .map(([key, item]) => [key, entries(item)])
    .toSorted();
}
