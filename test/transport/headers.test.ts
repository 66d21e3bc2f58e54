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
  ["a user", "/admin/users/admin", "GET", () => ({ headers: authorized() })],
  ["a list", "/admin/users", "GET", () => ({ headers: authorized() })],
  ["a report", "/admin/report", "GET", () => ({ headers: authorized() })],
  ["no answer", "/admin/users", "OPTIONS", () => ({})],
  ["no token", "/admin/users", "GET", () => ({})],
  ["an unknown path", "/nowhere", "GET", () => ({})],
  ["a method that is not allowed", "/admin/users", "BREW", () => ({})],
  [
    "Connect",
    "/tollgate.v1.UserService/ReadUser",
    "POST",
    () => ({ headers: { ...json, ...authorized() }, body: '{"username":"admin"}' }),
  ],
  ["an error of Connect", "/tollgate.v1.UserService/ReadUser", "POST", () => ({ headers: json, body: "{}" })],
  ["a wrong type", "/tollgate.v1.UserService/ReadUser", "POST", () => ({ body: "{}" })],
  [
    "gRPC-Web",
    "/tollgate.v1.SystemService/Check",
    "POST",
    () => ({ headers: { "content-type": "application/grpc-web+proto" }, body: "\0\0\0\0\0" }),
  ],
])("%s is neither kept by a cache nor guessed at by a browser", async (_what, path, method, init) => {
  const { headers } = await fetch(`${app.url}${path}`, { method, ...init() });
  expect([headers.get("cache-control"), headers.get("x-content-type-options")]).toEqual(["no-store", "nosniff"]);
});

test("the documentation may be kept for a while, and is not guessed at", async () => {
  const { headers } = await fetch(`${app.url}/admin/file/admin_en.html`);
  expect([headers.get("cache-control"), headers.get("x-content-type-options")]).toEqual([
    "public, max-age=300",
    "nosniff",
  ]);
});

test("nor is what answers bytes that are no HTTP", async () => {
  const socket = connect(Number(new URL(app.url).port), "127.0.0.1");
  socket.end("no HTTP at all\r\n\r\n");
  let text = "";
  socket.on("data", (data) => (text += String(data)));
  await once(socket, "close");
  expect(text).toMatch(/^HTTP\/1\.1 400 /);
  expect(text).toContain("cache-control: no-store\r\n");
  expect(text).toContain("x-content-type-options: nosniff\r\n");
});

test("nor is unary gRPC", async () => {
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
