import pino from "pino";
import { startApp } from "../../src/app/app.ts";
import { loggerOptions } from "../../src/app/logger.ts";
import { readConfig } from "../../src/config.ts";
import type { Database } from "../../src/postgres/database.ts";
import type { LedgerLimits } from "../../src/quotas/ledger/ledger.ts";
import { createTestDatabase } from "./database.ts";

export interface Answer {
  readonly status: number;
  readonly headers: Headers;
  readonly body: Json;
}

/** JSON that a test looks into without declaring its shape. */
export type Json = ReturnType<typeof JSON.parse>;

export interface TestApp {
  readonly url: string;
  readonly database: Database;
  /** The URL of the database, for a second server. */
  readonly databaseUrl: string;
  /** The token of the first administrator. */
  readonly admin: string;
  /** Every line that the server has logged. */
  readonly log: Json[];
  /** Calls the HTTP/JSON gateway. */
  http(method: string, path: string, options?: CallOptions): Promise<Answer>;
  /** Logs a user in with the password that `user` sets, and returns the token. */
  token(username: string): Promise<string>;
  /** Creates a company and returns its key. */
  company(): Promise<string>;
  /** Creates a user, by default in a new company, and returns the username. */
  user(fields?: Json): Promise<string>;
  /** Sets the limits of ROUTING and PLAN of a user, without a period or for `?from=…&to=…`. */
  setLimits(username: string, limits?: Json, period?: string): Promise<void>;
  /** Moves the server's clock forward. */
  advance(milliseconds: number): void;
  stop(): Promise<void>;
}

export interface CallOptions {
  readonly token?: string | undefined;
  readonly body?: Json;
  readonly headers?: Record<string, string>;
}

export const password = "correct horse";
const adminPassword = "first administrator";

export interface TestAppOptions {
  /** Whether `advance` moves the clock of counters in Redis as well. */
  readonly movesRedis?: boolean;
  /** Whether passwords are hashed at the cost of production. */
  readonly hashesAtFullCost?: boolean;
  /** Limits of the ledger's queue below those of production. */
  readonly ledgerLimits?: LedgerLimits;
  /** Returns the URL at which the server finds the database, such as that of a pooler. */
  readonly through?: (databaseUrl: string) => string;
}

/** The minimum cost of argon2. Most tests create users, and few test passwords. */
const lowCost = { memoryCost: 8, timeCost: 1, parallelism: 1 };

/** Starts the whole server on its own database and a free port. */
export async function startTestApp(
  settings: Record<string, string> = {},
  { movesRedis = false, hashesAtFullCost = false, ledgerLimits, through = (url) => url }: TestAppOptions = {},
): Promise<TestApp> {
  const { url: databaseUrl, database, drop } = await createTestDatabase();
  const log: Json[] = [];
  let ahead = 0;
  const config = readConfig({
    PORT: "0",
    HOST: "127.0.0.1",
    DATABASE_URL: through(databaseUrl),
    TOKEN_KEYS: "a-secret-for-tests-that-is-long-enough",
    ADMIN_PASSWORD: adminPassword,
    SERVER_NAME: "test_server",
    DRAIN_MS: "2000",
    ...settings,
  });
  const now = () => Date.now() + ahead;
  const endWith = (reason: string) => {
    throw new Error(reason);
  };
  const app = await startApp(config, {
    logger: pino(loggerOptions(config), { write: (line: string) => log.push(JSON.parse(line)) }),
    announce: () => undefined,
    now,
    redisNow: movesRedis ? now : undefined,
    passwordCost: hashesAtFullCost ? undefined : lowCost,
    ledgerLimits,
    // A second between two reads of usage would be most of the time of its tests.
    watchLimits: { intervalMs: 20 },
    onFailure: endWith,
    onTakeover: endWith,
  });
  let names = 0;

  const http: TestApp["http"] = async (method, path, { token, body, headers = {} } = {}) => {
    const response = await fetch(`${app.url}${path}`, {
      method,
      headers: {
        ...(token !== undefined && { authorization: `Bearer ${token}` }),
        ...(body !== undefined && { "content-type": "application/json" }),
        ...headers,
      },
      ...(body !== undefined && { body: typeof body === "string" ? body : JSON.stringify(body) }),
    });
    const text = await response.text();
    const isJson = response.headers.get("content-type")?.startsWith("application/json") === true && text !== "";
    return { status: response.status, headers: response.headers, body: isJson ? JSON.parse(text) : text };
  };
  const login = async (username: string, secret: string): Promise<string> => {
    const { status, body } = await http("POST", "/admin/token/generation", { body: { username, password: secret } });
    if (status !== 200) throw new Error(`login of ${username}: ${status} ${body.message}`);
    return body.token;
  };
  const admin = await login("admin", adminPassword);
  const create = async (path: string, body: Json): Promise<void> => {
    const answer = await http("POST", path, { token: admin, body });
    if (answer.status !== 201) throw new Error(`${path}: ${answer.status} ${JSON.stringify(answer.body)}`);
  };

  const testApp: TestApp = {
    url: app.url,
    database,
    databaseUrl,
    admin,
    log,
    http,
    token: (username) => login(username, password),
    company: async () => {
      const key = `company_${(names += 1)}`;
      await create("/admin/companies", { key });
      return key;
    },
    user: async (fields = {}) => {
      const username = `user_${(names += 1)}`;
      const company_key = fields.company_key ?? (await testApp.company());
      await create("/admin/users", { username, password, company_key, roles: [], ...fields });
      return fields.username ?? username;
    },
    setLimits: async (username, limits = {}, period = "") => {
      const services = [{ service: "ROUTING", methods: [{ method_group: "PLAN", ...limits }] }];
      const path = `/admin/quotas/${username}${period}`;
      const { status, body } = await testApp.http("PUT", path, { token: testApp.admin, body: { services } });
      if (status >= 300) throw new Error(`PUT ${path}: ${status} ${JSON.stringify(body)}`);
    },
    advance: (milliseconds) => {
      ahead += milliseconds;
    },
    stop: async () => {
      await app.stop();
      await drop();
    },
  };
  return testApp;
}
