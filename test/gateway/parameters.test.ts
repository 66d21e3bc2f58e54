import { afterAll, beforeAll, expect, test } from "vitest";
import { type FixtureServer, file, startFixture } from "./fixture.ts";

let server: FixtureServer;
beforeAll(async () => {
  server = await startFixture();
});
afterAll(() => server.stop());

test.each([
  ["/single/plain", { text: "plain" }],
  ["/single/a%2Fb%20c+d", { text: "a/b c+d" }],
  ["/single/%D0%AF:x", { text: "Я:x" }],
  ["/single/literal", { text: "" }],
  ["/alias/deep", { nested: { text: "deep", maybe: null } }],
  ["/v1/shelves/1/books/2", { text: "shelves/1/books/2" }],
  ["/v1/shelves/a%2Fb/books/c%20d", { text: "shelves/a%2Fb/books/c d" }],
  ["/v1/any/thing/else", { text: "any/thing/else" }],
  ["/v1/a%2fb%2Fc/%41", { text: "a%2fb%2Fc/A" }],
  ["/v1", { text: "" }],
  ["/single/a:", { text: "a:" }],
  ["/typed/-5/GREEN", { number: -5, color: "GREEN" }],
  ["/typed/0/2", { number: 0, color: "GREEN" }],
])("GET %s binds the path to %o", async (path, fields) => {
  const { status, body } = await server.call("GET", path);
  expect([status, body]).toEqual([200, expect.objectContaining(fields)]);
});

test.each([
  ["/single/%zz", "text"],
  ["/single/%ff", "text"],
  ["/typed/five/RED", "number"],
  ["/typed/1.5/RED", "number"],
  ["/typed/99999999999/RED", "number"],
  ["/typed/1/BLUE", "color"],
])("GET %s is a 400 that names %s", async (path, field) => {
  const { status, body } = await server.call("GET", path);
  expect([status, body.fields]).toEqual([400, [field]]);
});

test.each([
  ["text=a+b%2Bc", { text: "a b+c" }],
  ["text=", { text: "" }],
  ["text", { text: "" }],
  ["text=a=b", { text: "a=b" }],
  ["number=7&fraction=-1.5e3&yes=true", { number: 7, fraction: -1500, yes: true }],
  ["long_number=9007199254740991", { long_number: 9007199254740991 }],
  ["longNumber=-3", { long_number: -3 }],
  ["long_number=9007199254740993", { long_number: "9007199254740993" }],
  ["data=AQI%3D", { data: "AQI=" }],
  ["color=RED&colors=GREEN&colors=1", { color: "RED", colors: ["GREEN", "RED"] }],
  ["texts=b&texts=a", { texts: ["b", "a"] }],
  [`nested.${"deeper.".repeat(6)}text=x`, { nested: expect.anything() }],
  ["nested.text=x&nested.deeper.text=y", { nested: { text: "x", deeper: { text: "y", maybe: null }, maybe: null } }],
  ["time=2024-02-21T09%3A30%3A00%2B03%3A00", { time: "2024-02-21T06:30:00Z" }],
  ["time=2024-02-21T09:30:00+03:00", { time: "2024-02-21T06:30:00Z" }],
  ["duration=1.5s&mask=text,nested.text", { duration: "PT1.500S", mask: "text,nested.text" }],
  ["maybe=", {}],
  ["&&", { text: "" }],
])("the query %s becomes %o", async (query, fields) => {
  const { status, body } = await server.call("GET", `/query?${query}`);
  expect([status, body]).toEqual([200, expect.objectContaining(fields)]);
});

test.each([
  ["unknown=1", "unknown"],
  ["nested.unknown=1", "nested.unknown"],
  ["text=1&text=2", "text"],
  ["long_number=1&longNumber=2", "long_number"],
  ["number=0x10", "number"],
  ["number=%201", "number"],
  ["fraction=infinity", "fraction"],
  ["fraction=0x10", "fraction"],
  ["fraction=1e400", "fraction"],
  ["data=A==", "data"],
  ["duration=5s30m", "duration"],
  ["time=2023-02-29T00:00:00Z", "time"],
  ["yes=1", "yes"],
  ["yes=TRUE", "yes"],
  ["color=BLUE", "color"],
  ["time=yesterday", "time"],
  ["text=%zz", "text"],
  ["%zz=1", "%zz"],
  ["data=AQ+I=", "data"],
  [`nested.${"deeper.".repeat(7)}text=x`, `nested.${"deeper.".repeat(7)}text`],
  ["nested=x", "nested"],
  ["nests=x", "nests"],
  ["nests.text=x", "nests.text"],
  ["names=x", "names"],
  ["toString=x", "toString"],
])("the query %s is a 400 that names %s", async (query, field) => {
  const { status, body } = await server.call("GET", `/query?${query}`);
  expect([status, body.fields]).toEqual([400, [field]]);
});

test.each([
  ["/rare?answers=true&answers=false", { answers: [true, false] }],
  ["/rare?long=5", { long: 5 }],
  ["/rare?right.deeper.deeper.text=x", { right: expect.objectContaining({ deeper: expect.anything() }) }],
])("GET %s reads wrappers, lists of wrappers and recursive messages", async (path, fields) => {
  const { status, body } = await server.call("GET", path);
  expect([status, body]).toEqual([200, expect.objectContaining(fields)]);
});

test.each([
  ["/rare?left=a&middle=b", "middle"],
  ["/rare?left=a&right.text=b", "right.text"],
  ["/rare/left/a?middle=b", "middle"],
  ["/rare?any.type_url=x", "any.type_url"],
  ["/rare?struct.fields=x", "struct.fields"],
  ["/rare?answers=yes", "answers"],
])("GET %s is a 400 that names %s", async (path, field) => {
  const { status, body } = await server.call("GET", path);
  expect([status, body.fields]).toEqual([400, [field]]);
});

test.each(["$alt=json", "%24alt=json", "$prettyPrint=false", "$fields=*", "$alt=json&$prettyPrint=false&text=x"])(
  "accepts the system parameter %s, which describes the response",
  async (query) => {
    expect((await server.call("GET", `/query?${query}`)).status).toBe(200);
    expect((await server.call("POST", `/single/a?${query.replace("&text=x", "")}`, {})).status).toBe(200);
  },
);

test.each([
  ["$alt=proto", "$alt"],
  ["$alt=json;enum-encoding=int", "$alt"],
  ["$alt=media", "$alt"],
  ["$alt=json&$alt=json", "$alt"],
  ["$prettyPrint=true", "$prettyPrint"],
  ["$fields=text", "$fields"],
  ["$callback=x", "$callback"],
  ["alt=json", "alt"],
])("the unsupported system parameter %s is a 400 that names %s", async (query, field) => {
  const { status, body } = await server.call("GET", `/query?${query}`);
  expect([status, body.fields]).toEqual([400, [field]]);
});

test("an operation with a file accepts $alt=media and refuses $alt=json", async () => {
  const files = await startFixture({ file: async () => file("text/plain", Buffer.from("x")) });
  expect((await files.call("GET", "/file?$alt=media")).status).toBe(200);
  expect((await files.call("GET", "/file?$alt=json")).status).toBe(400);
  await files.stop();
});

test("refuses a query parameter for a field that the path sets", async () => {
  const { status, body } = await server.call("GET", "/single/a?text=a");
  expect([status, body.fields]).toEqual([400, ["text"]]);
});

test("with body *, the query must be empty and the body must not contradict the path", async () => {
  const query = await server.call("POST", "/single/a?number=1", {});
  expect([query.status, query.body.fields]).toEqual([400, ["number"]]);
  const same = await server.call("POST", "/single/a", { text: "a", number: 2 });
  expect(same.body).toMatchObject({ text: "a", number: 2 });
  const other = await server.call("POST", "/single/a", { text: "b" });
  expect([other.status, other.body.fields]).toEqual([400, ["text"]]);
});

test("with a body field, the query sets the other fields", async () => {
  const { body } = await server.call("PUT", "/single/a?number=1", { text: "inner" });
  expect(body).toMatchObject({ text: "a", number: 1, nested: { text: "inner" } });
  const twice = await server.call("PUT", "/single/a?nested.text=x", {});
  expect([twice.status, twice.body.fields]).toEqual([400, ["nested.text"]]);
});
