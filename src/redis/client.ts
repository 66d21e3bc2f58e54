import { Redis } from "ioredis";
import type { Logger } from "pino";

/** How long a caller waits for Redis before it goes on without. */
const commandTimeoutMs = 1000;

/**
 * A client that connects by itself and again. While there is no connection, commands fail at once: whoever asks has
 * another way, and no queue of old questions meets a Redis that has just come back.
 * @param url redis://user:password@host:port/number, rediss:// with TLS
 */
export function openRedis(url: string, logger: Logger): Redis {
  const redis = new Redis(url, {
    commandTimeout: commandTimeoutMs,
    connectTimeout: commandTimeoutMs,
    enableOfflineQueue: false,
    maxRetriesPerRequest: 0,
    retryStrategy: (attempt) => Math.min(50 * 2 ** attempt, 2000),
  });
  redis.on("error", (error: Error) => logger.warn({ err: error }, "redis"));
  return redis;
}
