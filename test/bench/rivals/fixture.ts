import { readFileSync } from "node:fs";
import { chmod, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Closers, closeAll } from "../../../src/app/closers.ts";
import { startEmbedded } from "../../../src/postgres/embedded/embedded.ts";
import { cores, moveAside, type Server, serviceOf, startServer } from "./processes.ts";

/** The number of users that request quotas. */
export const users = Number(process.env.USERS ?? 50);

/** The service with its PostgreSQL and Redis, and the settings that its rivals share. */
export interface Fixture {
  readonly server: Server;
  readonly redis: Server;
  /** The process id of the embedded PostgreSQL. */
  readonly postgresPid: number;
  readonly token: string;
  readonly environment: Record<string, string>;
  startService(settings: Record<string, string>, core?: string): Promise<Server>;
  /** Sends a request. @throws Error for any status other than success */
  send(method: string, path: string, body: unknown): Promise<string>;
  stop(): Promise<void>;
}

export interface FixtureOptions {
  readonly settings?: Record<string, string>;
  /** The folder of the service, built. Default: this tree. */
  readonly tree?: string;
}

/** Starts the fixture. On failure, it stops what it has started. */
export async function startFixture(options: FixtureOptions = {}): Promise<Fixture> {
  const closers: Closers = [];
  try {
    return await openFixture(options, closers);
  } catch (error) {
    await closeAll(closers);
    throw error;
  }
}

async function openFixture({ settings = {}, tree = "." }: FixtureOptions, closers: Closers): Promise<Fixture> {
  const folder = await mkdtemp(join(tmpdir(), "tollgate-rivals-"));
  closers.push(() => rm(folder, { recursive: true }));
  await chmod(folder, 0o711);
  const postgres = await startEmbedded({ folder, onExit: () => console.error("PostgreSQL has ended") });
  closers.push(() => postgres.stop());
  const postgresPid = Number(readFileSync(join(folder, "postgres/postmaster.pid"), "utf8").split("\n", 1)[0]);
  moveAside(postgresPid);
  const redis = await startServer(
    ["sh", "-c", 'exec redis-server --port "$PORT" --save "" --appendonly no'],
    {},
    cores.others,
  );
  closers.push(() => redis.stop());
  const environment = {
    DATABASE_URL: postgres.url,
    REDIS_URL: redis.url.replace("http", "redis"),
    TOKEN_KEYS: "a-secret-for-the-bench-of-32-characters",
    ADMIN_PASSWORD: "first administrator",
    LOG_LEVEL: "error",
    ...settings,
  };
  const startService = (settings: Record<string, string>, core?: string) =>
    startServer(serviceOf(tree), { ...environment, ...settings }, core);
  const server = await startService({}, cores.server);
  closers.push(() => server.stop());
  let token = "";
  const send: Fixture["send"] = async (method, path, body) => {
    const headers = { "content-type": "application/json", ...(token !== "" && { authorization: `Bearer ${token}` }) };
    const init = { method, headers, body: JSON.stringify(body) };
    const response = await fetch(`${server.url}${path}`, init);
    const text = await response.text();
    if (!response.ok) throw new Error(`${path}: ${response.status} ${text}`);
    return text;
  };
  const login = await send("POST", "/admin/token/generation", {
    username: "admin",
    password: environment.ADMIN_PASSWORD,
  });
  token = JSON.parse(login).token;
  await makeUsers(send);
  const stop = () => closeAll(closers);
  return { server, redis, postgresPid, token, environment, startService, send, stop };
}

/** The highest limit that a quota may have. */
const mostPoints = 100_000_000;

async function makeUsers(send: Fixture["send"]): Promise<void> {
  await send("POST", "/admin/companies", { key: "acme" });
  const quota = (points: number) => ({
    services: [
      {
        service: "UNIVERSAL",
        methods: [
          {
            method_group: "PLAN",
            points_per_day: points,
            points_per_date_window: mostPoints,
            // No maximum of running leases: some loads never end theirs.
          },
        ],
      },
    ],
  });
  for (let index = 0; index < users; index += 1) {
    await send("POST", "/admin/users", {
      username: `user_${index}`,
      company_key: "acme",
      roles: ["USER"],
      timezone: 0,
    });
    await send("PUT", `/admin/quotas/user_${index}`, quota(mostPoints));
  }
  await send("POST", "/admin/users", { username: "exhausted", company_key: "acme", roles: ["USER"], timezone: 0 });
  await send("PUT", "/admin/quotas/exhausted", quota(0));
}
