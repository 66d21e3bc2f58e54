import { randomUUID } from "node:crypto";
import pg from "pg";
import { ConfigError } from "../config.ts";

const timeoutMs = 5000;

/**
 * Checks that a connection keeps its session of PostgreSQL. A pooler in transaction mode lends the session to other
 * connections between two transactions. Locks, notifications and settings of the session are then lost without an error.
 * @param url the address in DATABASE_URL
 * @throws ConfigError that says what to do
 */
export async function checkSession(url: string): Promise<void> {
  const clients = [openClient(url), openClient(url)] as const;
  const [watched, other] = clients;
  try {
    for (const client of clients) await client.connect();
    const mark = randomUUID();
    await watched.query("select set_config('tollgate.session', $1, false)", [mark]);
    // A pooler in transaction mode gives this transaction the session that it has just taken back.
    await other.query("begin");
    const { rows } = await watched.query<{ mark: string | null }>(
      "select current_setting('tollgate.session', true) as mark",
    );
    if (rows[0]?.mark === mark) return;
  } finally {
    await Promise.all(clients.map((client) => client.end().catch(() => undefined)));
  }
  throw new ConfigError(
    "DATABASE_URL: must not be a pooler in transaction mode: locks and notifications need a session. Use session mode, or the address of PostgreSQL",
  );
}

function openClient(url: string): pg.Client {
  const client = new pg.Client({
    connectionString: url,
    connectionTimeoutMillis: timeoutMs,
    query_timeout: timeoutMs,
  });
  client.on("error", () => undefined);
  return client;
}
