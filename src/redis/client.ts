import { Cluster, Redis } from "ioredis";
import type { Logger } from "pino";
import { parseRedisUrl } from "./url.ts";

/** How long a caller waits for Redis before it goes on without. */
const commandTimeoutMs = 1000;
/** How often the nodes of a Cluster are asked who is master of what. */
const refreshMs = 1000;

/**
 * A client that connects by itself and again. While there is no connection, commands fail at once: whoever asks has
 * another way, and no queue of old questions meets a Redis that has just come back.
 * @param url see parseRedisUrl
 */
export function openRedis(url: string, logger: Logger): Redis | Cluster {
  const redis = connect(url);
  redis.on("error", (error: Error) => logger.warn({ err: error }, "redis"));
  return redis;
}

function connect(url: string): Redis | Cluster {
  const address = parseRedisUrl(url);
  if (address === undefined) throw new Error("not the address of a Redis");
  const { kind, hosts, username, password, hasTls, path } = address;
  const common = {
    ...(username !== "" && { username }),
    ...(password !== "" && { password }),
    ...(hasTls && { tls: {} }),
    commandTimeout: commandTimeoutMs,
    connectTimeout: commandTimeoutMs,
    // A connection that has gone silent is left. After commandTimeout: a slow answer must not end it.
    socketTimeout: 2 * commandTimeoutMs,
    maxRetriesPerRequest: 0,
  };
  const again = { enableOfflineQueue: false, retryStrategy: (attempt: number) => Math.min(50 * 2 ** attempt, 2000) };
  switch (kind) {
    case "single":
      return new Redis({ ...common, ...again, ...hosts[0], db: Number(path) });
    case "sentinel":
      // failoverDetector: leaves a master that was deposed and still answers.
      return new Redis({
        ...common,
        ...again,
        sentinels: [...hosts],
        name: path,
        failoverDetector: true,
        sentinelCommandTimeout: commandTimeoutMs,
      });
    case "cluster":
      return new Cluster([...hosts], {
        redisOptions: common,
        enableOfflineQueue: false,
        slotsRefreshInterval: refreshMs,
        // What was asked of a master that has gone is not asked of its replica, which may have lost what came before.
        retryDelayOnFailover: 0,
        retryDelayOnClusterDown: 0,
      });
  }
}
