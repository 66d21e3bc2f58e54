import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { setTimeout as wait } from "node:timers/promises";
import { expect, test } from "vitest";
import { startTestApp } from "../support/app.ts";
import { createTestDatabase } from "../support/database.ts";

/** Cached users are read again after this time without notifications, in milliseconds. */
const freshMs = 5000;

/** A TCP proxy that can be closed. */
async function openWay(to: { readonly host: string; readonly port: number }, port = 0) {
  const sockets = new Set<Socket>();
  const way = createServer((socket) => {
    const upstream = connect(to);
    for (const end of [socket, upstream]) {
      sockets.add(end);
      end.on("error", () => undefined).once("close", () => sockets.delete(end));
    }
    socket.pipe(upstream).pipe(socket);
  });
  await once(way.listen(port, "127.0.0.1"), "listening");
  return {
    port: (way.address() as AddressInfo).port,
    /** Keeps the open connections. */
    refuseNew: () => void way.close(),
    async close() {
      const closed = once(way.close(), "close");
      for (const socket of sockets) socket.destroy();
      await closed;
    },
  };
}

/** Starts a server that reaches PostgreSQL by a way of its own, and a user with a quota. */
async function startBehindWay() {
  const { url, database, drop } = await createTestDatabase();
  const direct = new URL(url);
  const to = { host: direct.hostname, port: Number(direct.port) };
  const way = await openWay(to);
  direct.hostname = "127.0.0.1";
  direct.port = String(way.port);
  const app = await startTestApp({ DATABASE_URL: direct.href });
  const username = await app.user();
  const token = await app.token(await app.user({ roles: ["BOT"] }));
  const { id } = await database("user_account").where({ username }).first("id");
  await database("quota").insert({
    user_id: id,
    service: "ROUTING",
    method_group: "PLAN",
    points_per_request: 100,
    points_per_day: 1000,
  });
  const check = async (token: string, name = username) => {
    const body = { username: name, service: "ROUTING", method_group: "PLAN", points: 1 };
    return (await app.http("POST", "/quota/leases:check", { token, body })).status;
  };
  await expect.poll(() => check(token)).toBe(200);
  return { app, database, drop, way, to, username, token, check };
}

test("while PostgreSQL is down, cached users are served, and uncached users are not reported as missing", {
  timeout: 60_000,
}, async () => {
  const { app, drop, way, to, username, token, check } = await startBehindWay();
  const stranger = await app.token(await app.user({ roles: ["BOT"] }));

  await way.close();
  await wait(freshMs + 500);
  const answers = [await check(token, username), await check(stranger, username), await check(token, "unknown_user")];
  expect(answers).toEqual([200, 503, 503]);

  const again = await openWay(to, way.port);
  await expect.poll(() => check(stranger, username), { timeout: 10_000 }).toBe(200);
  await app.stop();
  await again.close();
  await drop();
});

test("a change that no notification tells is used soon", { timeout: 60_000 }, async () => {
  const { app, database, drop, way, token, check } = await startBehindWay();
  const listening =
    "pg_stat_activity where application_name = 'tollgate_notifications' and datname = current_database()";
  way.refuseNew();
  await database.raw(`select pg_terminate_backend(pid) from ${listening}`);
  await expect.poll(async () => (await database.raw(`select from ${listening}`)).rowCount).toBe(0);
  await database("quota").delete();
  expect(await check(token)).toBe(200);
  // A minute with notifications, and five seconds without.
  await expect.poll(() => check(token), { timeout: 15_000 }).toBe(403);
  await app.stop();
  await way.close();
  await drop();
});
