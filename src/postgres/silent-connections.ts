import type { Socket } from "node:net";
import pg from "pg";

export interface SilenceOptions {
  /** The longest time in which a running statement may receive no byte. */
  readonly limitMs: number;
  /** Returns whether PostgreSQL still runs the statement: then the wait continues. Absent: it never does. */
  readonly isRunning?: (processId: number) => Promise<boolean>;
}

/** Members that the types of pg leave out. */
interface OpenClient {
  readonly connection: { readonly stream: Socket };
  /** False while a statement runs. */
  readonly readyForQuery: boolean;
  readonly processID: number;
}

/**
 * Closes an open connection that receives nothing while a statement runs. A firewall or a proxy may have dropped it
 * without notice to either end. The statement then fails with a connection error. TCP alone would wait for a quarter of an
 * hour, and forever if a middlebox still acknowledges.
 */
export function closeWhenSilent(client: pg.Client, { limitMs, isRunning }: SilenceOptions): void {
  const open = client as unknown as OpenClient;
  const { stream } = open.connection;
  const check = async () => {
    // After a pause of this process, a response may be buffered: let the event loop read it first.
    await new Promise(setImmediate);
    if (open.readyForQuery || stream.destroyed) return;
    const { bytesRead } = stream;
    if (await isRunning?.(open.processID).catch(() => false)) return void stream.setTimeout(limitMs);
    const isStillSilent = !open.readyForQuery && stream.bytesRead === bytesRead;
    if (isStillSilent) stream.destroy(new Error("Connection terminated: no response in time"));
  };
  stream.setTimeout(limitMs).on("timeout", () => void check());
}

const checkTimeoutMs = 2000;

/** Checks over a separate connection whether the backend runs a statement. */
export async function isBackendActive(url: string, processId: number): Promise<boolean> {
  const client = new pg.Client({
    connectionString: url,
    connectionTimeoutMillis: checkTimeoutMs,
    query_timeout: checkTimeoutMs,
  });
  client.on("error", () => undefined);
  try {
    await client.connect();
    const text = "select 1 from pg_stat_activity where pid = $1 and state = 'active'";
    return (await client.query(text, [processId])).rows.length > 0;
  } finally {
    // Not ended gracefully: this connection may be silent too.
    (client as unknown as OpenClient).connection.stream.destroy();
  }
}
