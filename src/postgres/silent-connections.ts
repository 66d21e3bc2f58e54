import type { Socket } from "node:net";
import pg from "pg";

export interface SilenceOptions {
  /** How long a statement may be without a byte of its answer. */
  readonly limitMs: number;
  /** Whether PostgreSQL is still at work on the statement: then it is waited for again. Absent: it never is. */
  readonly isAtWork?: (processId: number) => Promise<boolean>;
}

/** What the types of pg leave out. */
interface OpenClient {
  readonly connection: { readonly stream: Socket };
  /** False while a statement is under way. */
  readonly readyForQuery: boolean;
  readonly processID: number;
}

/**
 * Ends an open connection that has gone silent under a statement: a firewall or a proxy has forgotten it, and neither
 * end is told. The statement then fails as that of any broken connection does. TCP alone would wait for a quarter of an
 * hour, and for ever where something in between still acknowledges.
 */
export function endWhenSilent(client: pg.Client, { limitMs, isAtWork = () => Promise.resolve(false) }: SilenceOptions) {
  const open = client as unknown as OpenClient;
  const { stream } = open.connection;
  const check = async () => {
    // After a pause of this process, the answer may be here and unread: it is read before this goes on.
    await new Promise(setImmediate);
    if (open.readyForQuery || stream.destroyed) return;
    const { bytesRead } = stream;
    if (await isAtWork(open.processID).catch(() => false)) return void stream.setTimeout(limitMs);
    const isStillSilent = !open.readyForQuery && stream.bytesRead === bytesRead;
    if (isStillSilent) stream.destroy(new Error("Connection terminated: no answer in time"));
  };
  stream.setTimeout(limitMs).on("timeout", () => void check());
}

const askTimeoutMs = 2000;

/** Whether the backend runs a statement, asked over a connection of its own. */
export async function isBackendActive(url: string, processId: number): Promise<boolean> {
  const client = new pg.Client({
    connectionString: url,
    connectionTimeoutMillis: askTimeoutMs,
    query_timeout: askTimeoutMs,
  });
  client.on("error", () => undefined);
  try {
    await client.connect();
    const text = "select 1 from pg_stat_activity where pid = $1 and state = 'active'";
    return (await client.query(text, [processId])).rows.length > 0;
  } finally {
    // Not waited for: this connection may be silent, too.
    (client as unknown as OpenClient).connection.stream.destroy();
  }
}
