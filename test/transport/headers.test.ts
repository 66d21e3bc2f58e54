import { once } from "node:events";
import { connect as connectHttp2 } from "node:http2";
import { connect } from "node:net";
import { afterAll, beforeAll, expect, test } from "vitest";
import { startTestApp, type TestApp } from "../support/app.ts";

let app: TestApp;
beforeAll(async () => {
  app = await startTestApp();
});
afterAll(() => app.stop());

const json = { "content-type": "application/json" };
const authorized = () => ({ authorization: `Bearer ${app.admin}` });

test.each<[string, string, string, () => RequestInit]>([
  ["a response with a user", "/admin/users/admin", "GET", () => ({ headers: authorized() })],
  ["a response with a list", "/admin/users", "GET", () => ({ headers: authorized() })],
  ["a report", "/admin/report", "GET", () => ({ headers: authorized() })],
  ["a response to OPTIONS", "/admin/users", "OPTIONS", () => ({})],
  ["a refusal of a missing token", "/admin/users", "GET", () => ({})],
  ["a refusal of an unknown path", "/nowhere", "GET", () => ({})],
  ["a refusal of a method", "/admin/users", "BREW", () => ({})],
  [
    "a Connect response",
    "/tollgate.v1.UserService/ReadUser",
    "POST",
    () => ({ headers: { ...json, ...authorized() }, body: '{"username":"admin"}' }),
  ],
  ["a Connect error", "/tollgate.v1.UserService/ReadUser", "POST", () => ({ headers: json, body: "{}" })],
  ["a refusal of a content type", "/tollgate.v1.UserService/ReadUser", "POST", () => ({ body: "{}" })],
  [
    "a gRPC-Web response",
    "/tollgate.v1.SystemService/Check",
    "POST",
    () => ({ headers: { "content-type": "application/grpc-web+proto" }, body: "\0\0\0\0\0" }),
  ],
])("%s is sent with no-store and nosniff", async (_what, path, method, init) => {
  const { headers } = await fetch(`${app.url}${path}`, { method, ...init() });
  expect([headers.get("cache-control"), headers.get("x-content-type-options")]).toEqual(["no-store", "nosniff"]);
});

test("the documentation is sent with a max-age of 300 seconds and nosniff", async () => {
  const { headers } = await fetch(`${app.url}/admin/file/admin_en.html`);
  expect([headers.get("cache-control"), headers.get("x-content-type-options")]).toEqual([
    "public, max-age=300",
    "nosniff",
  ]);
});

test("the response to bytes that are not HTTP is sent with no-store and nosniff", async () => {
  const socket = connect(Number(new URL(app.url).port), "127.0.0.1");
  socket.end("no HTTP at all\r\n\r\n");
  let text = "";
  socket.on("data", (data) => (text += String(data)));
  await once(socket, "close");
  expect(text).toMatch(/^HTTP\/1\.1 400 /);
  expect(text).toContain("cache-control: no-store\r\n");
  expect(text).toContain("x-content-type-options: nosniff\r\n");
});

test("a unary gRPC response is sent with no-store and nosniff", async () => {
  const session = connectHttp2(app.url);
  const stream = session.request({
    ":method": "POST",
    ":path": "/tollgate.v1.SystemService/Check",
    "content-type": "application/grpc",
  });
  stream.end(Buffer.alloc(5));
  const [headers] = await once(stream, "response");
  expect([headers["cache-control"], headers["x-content-type-options"]]).toEqual(["no-store", "nosniff"]);
  session.destroy();
});
