import { createServer } from "node:http";
import http2 from "node:http2";
import net from "node:net";
import { once } from "node:events";
import { createFixtureGateway } from "/work/main/test/gateway/fixture.ts";
import { Code, ConnectError } from "@connectrpc/connect";
const item = (text: string) => ({ $typeName: "fixture.Nested", text });
const page = (texts: string[], rest = {}) => ({ $typeName: "fixture.Page", items: texts.map(item), last: "", total: 0, ...rest });
const impl = {
  pages: async function* (r: any) { const n = r.number || 3; for (let i = 0; i < n; i++) yield page(["x".repeat(1000)]); if (r.text === "late") throw new ConnectError("late", Code.Internal); },
  file: async () => ({ $typeName: "google.api.HttpBody", contentType: "text/x", data: new Uint8Array(5), extensions: [] }),
  chunks: async function* () {},
};
const gw = createFixtureGateway("EchoService", impl as any);
const h1 = createServer(gw); await new Promise<void>(r => h1.listen(0, "127.0.0.1", r)); const p1 = (h1.address() as any).port;
const h2 = http2.createServer(gw as any); await new Promise<void>(r => h2.listen(0, "127.0.0.1", r)); const p2 = (h2.address() as any).port;
const t = async (name: string, f: () => Promise<unknown>) => { try { console.log(name, "=>", JSON.stringify(await Promise.race([f(), new Promise(r => setTimeout(() => r("TIMEOUT"), 3000))]))); } catch (e: any) { console.log(name, "=> THROW", e.message, e.cause?.message); } };
const get = async (path: string, init?: any) => { const r = await fetch(`http://127.0.0.1:${p1}${path}`, init); return { s: r.status, h: Object.fromEntries(r.headers), b: (await r.text()).slice(0, 200) }; };
const session = http2.connect(`http://127.0.0.1:${p2}`); session.on("error", e => console.log("session error", e.message));
const g2 = (headers: any, body?: string | ((s: any) => void)) => new Promise((res) => {
  const s = session.request(headers, { endStream: body === undefined }); let h: any; let d = ""; let err: any; let ended = false;
  s.on("response", x => h = x); s.setEncoding("utf8"); s.on("data", c => d += c); s.on("end", () => ended = true); s.on("error", e => err = e.message);
  s.on("close", () => res({ s: h?.[":status"], cl: h?.["content-length"], n: d.length, d: d.slice(0, 120), err, ended, rst: s.rstCode }));
  if (typeof body === "string") s.end(body); else if (body) body(s);
});
await t("page defaults", () => get("/pages?number=1"));
await t("file h1", () => get("/file"));
await t("empty chunks", () => get("/chunks"));
await t("413 chunked fetch 5MB", () => get("/single/a", { method: "POST", headers: { "content-type": "application/json" }, body: new Blob([JSON.stringify({ text: "x".repeat(5e6) })]).stream(), duplex: "half" }));
await t("413 length fetch 5MB", () => get("/single/a", { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ text: "x".repeat(5e6) }) }));
await t("413 raw chunked", () => new Promise((res) => { const s = net.connect(p1); let d = ""; s.on("data", c => d += c); s.on("error", e => res("ERR " + e.message + " got " + d.slice(0, 40))); s.on("close", () => res("close got " + d.slice(0, 40)));
  s.write("POST /single/a HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"); const c = "8000\r\n" + "x".repeat(0x8000) + "\r\n"; let n = 0; const w = () => { if (n++ > 200 || s.destroyed) return; s.write(c); setImmediate(w); }; w(); }));
await t("h2 get", () => g2({ ":path": "/query?text=a" }));
await t("h2 head", () => g2({ ":path": "/query?text=a", ":method": "HEAD" }));
await t("h2 head pages", () => g2({ ":path": "/pages?number=3", ":method": "HEAD" }));
await t("h2 head file", () => g2({ ":path": "/file", ":method": "HEAD" }));
await t("h2 late", () => g2({ ":path": "/pages?text=late&number=3" }));
await t("h2 post nolength", () => g2({ ":path": "/single/a", ":method": "POST", "content-type": "application/json" }, '{"number":1}'));
await t("h2 get with body", () => g2({ ":path": "/query", ":method": "GET" }, '{"number":1}'));
await t("h1 get with empty chunked body", () => new Promise((res) => { const s = net.connect(p1); let d = ""; s.on("data", c => { d += c; res(d.slice(0, 60)); s.destroy(); }); s.write("GET /query HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"); }));
await t("h2 413", () => g2({ ":path": "/single/a", ":method": "POST", "content-type": "application/json" }, (s) => { for (let i = 0; i < 50; i++) s.write("x".repeat(32768)); }));
await t("h2 405", () => g2({ ":path": "/query", ":method": "POST" }, "{}"));
await t("int64 unsafe", () => get("/single/a", { method: "POST", headers: { "content-type": "application/json" }, body: '{"long_number":9007199254740993}' }));
await t("scalar list", () => get("/single/a", { method: "POST", headers: { "content-type": "application/json" }, body: '{"texts":["a",5]}' }));
await t("bytes ws", () => get("/query?data=AQ+I="));
await t("absolute", () => new Promise((res) => { const s = net.connect(p1); s.on("data", c => { res(String(c).slice(0, 60)); s.destroy(); }); s.write("GET http://x/query HTTP/1.1\r\nhost: x\r\n\r\n"); }));
await t("post none", () => get("/single/a", { method: "POST" }));
session.destroy(); h1.close(); h1.closeAllConnections(); h2.close(); process.exit(0);
