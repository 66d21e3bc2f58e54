import { execFileSync } from "node:child_process";
import { once } from "node:events";
import { copyFile, mkdtemp, rename, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connect as connectTls } from "node:tls";
import { expect, test, vi } from "vitest";
import { startTestApp } from "../support/app.ts";
import { createTestDatabase } from "../support/database.ts";
import { startProcess } from "../support/process.ts";
import { startProxy } from "../support/proxy.ts";

const keys = { TOKEN_KEYS: "a-secret-for-tests-that-is-long-enough", ADMIN_PASSWORD: "first administrator" };
const waitLimits = { timeout: 20_000, interval: 50 };

async function statusOf(url: string, path: string): Promise<number> {
  const response = await fetch(url + path, { headers: { connection: "close" } });
  await response.text();
  return response.status;
}

test("a server without PostgreSQL is alive and ready, and says so without a token", async () => {
  const { url, drop } = await createTestDatabase();
  const { hostname, port } = new URL(url);
  const proxy = await startProxy({ host: hostname, port: Number(port) });
  const app = await startTestApp({ DATABASE_URL: proxy.url(url) });
  expect(await statusOf(app.url, "/livez")).toBe(200);
  expect(await statusOf(app.url, "/readyz")).toBe(200);
  await proxy.refuse();
  await vi.waitFor(async () => expect(await statusOf(app.url, "/admin/system/check")).toBe(503), waitLimits);
  expect(await statusOf(app.url, "/livez")).toBe(200);
  expect(await statusOf(app.url, "/readyz")).toBe(200);
  await proxy.restore();
  await app.stop();
  await proxy.close();
  await drop();
});

test("a server that drains says that it is not ready, and takes calls during DRAIN_DELAY_MS", async () => {
  const { url, drop } = await createTestDatabase();
  const server = await startProcess({ ...keys, DATABASE_URL: url, DRAIN_DELAY_MS: "4000" });
  const startMs = performance.now();
  const ended = server.end("SIGTERM");
  await vi.waitFor(async () => expect(await statusOf(server.url, "/readyz")).toBe(503), waitLimits);
  expect(await statusOf(server.url, "/livez")).toBe(200);
  expect(await statusOf(server.url, "/admin/system/check")).toBe(200);
  const health = await fetch(`${server.url}/grpc.health.v1.Health/Check`, {
    method: "POST",
    headers: { "content-type": "application/json", connection: "close" },
    body: "{}",
  });
  expect(await health.json()).toEqual({ status: "NOT_SERVING" });
  expect(await ended).toBe(0);
  expect(performance.now() - startMs).toBeGreaterThanOrEqual(4000);
  await drop();
});

test("a changed certificate is used for new connections, and an invalid one is logged and not used", async () => {
  const { url, drop } = await createTestDatabase();
  const folder = await mkdtemp(join(tmpdir(), "tollgate-tls-"));
  const [cert, key] = [join(folder, "cert.pem"), join(folder, "key.pem")];
  await copyFile("test/support/tls/cert.pem", cert);
  await copyFile("test/support/tls/key.pem", key);
  const server = await startProcess({ ...keys, DATABASE_URL: url, TLS_CERT: cert, TLS_KEY: key });
  const first = await fingerprintOf(server.url);

  await writeFile(cert, "broken");
  await vi.waitFor(() => expect(server.output()).toContain("tls certificate not replaced"), waitLimits);
  expect(await fingerprintOf(server.url)).toBe(first);

  const [newCert, newKey] = [join(folder, "new-cert.pem"), join(folder, "new-key.pem")];
  const request = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "9"];
  const files = ["-subj", "/CN=localhost", "-out", newCert, "-keyout", newKey];
  execFileSync("openssl", [...request, ...files], { stdio: "ignore" });
  await rename(newKey, key);
  await rename(newCert, cert);
  await vi.waitFor(async () => expect(await fingerprintOf(server.url)).not.toBe(first), waitLimits);
  await vi.waitFor(() => expect(server.output()).toContain("tls certificate replaced"), waitLimits);
  expect(await server.end()).toBe(0);
  await rm(folder, { recursive: true });
  await drop();
});

async function fingerprintOf(url: string): Promise<string> {
  const { hostname, port } = new URL(url);
  const socket = connectTls({ host: hostname, port: Number(port), rejectUnauthorized: false });
  await once(socket, "secureConnect");
  const { fingerprint256 } = socket.getPeerCertificate();
  socket.destroy();
  return fingerprint256;
}
