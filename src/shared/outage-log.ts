import type { Logger } from "pino";

/** The connections to a server that stay open. */
export interface OutageLog {
  /** Logs that the server is lost, unless another connection has been lost before. */
  lose(connection: string, error?: unknown): void;
  /** Logs that the server is back, when no other connection is lost any more. */
  restore(connection: string): void;
}

/** Logs one line when a server is lost and one when it is back, however many connections and attempts there are. */
export function createOutageLog(logger: Logger, server: "postgresql" | "redis"): OutageLog {
  const lost = new Set<string>();
  let sinceMs = 0;
  return {
    lose(connection, error) {
      if (lost.size === 0) {
        sinceMs = performance.now();
        logger.warn({ connection, err: error }, `${server} connection lost`);
      }
      lost.add(connection);
    },
    restore(connection) {
      if (!lost.delete(connection) || lost.size > 0) return;
      logger.info({ lostMs: Math.round(performance.now() - sinceMs) }, `${server} connection restored`);
    },
  };
}
