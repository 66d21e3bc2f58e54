import { Cluster, Redis } from "ioredis";
import type { Logger } from "pino";
import { createOutageLog } from "../shared/outage-log.ts";
import { parseRedisUrl } from "./url.ts";

/** The timeout of a command and of a connect. */
const commandTimeoutMs = 1000;
/** How often the slots of a Cluster are read. */
const refreshMs = 1000;

/**
 * Opens a client that connects and reconnects by itself. Without a connection, commands fail at once: callers have another
 * way, and no queue of old commands meets a Redis that has just come back.
 * @param url see parseRedisUrl
 */
export function openRedis(url: string, logger: Logger): Redis | Cluster {
  const redis = connect(url);
  const outages = createOutageLog(logger, "redis");
  // Each attempt to connect again fails with an error of its own.
  redis.on("error", (error: Error) => outages.lose("client", error));
  redis.on("ready", () => outages.restore("client"));
  return redis;
}

function connect(url: string): Redis | Cluster {
  const address = parseRedisUrl(url);
  if (address === undefined) throw new Error("must be the address of a Redis server");
  const { kind, hosts, username, password, hasTls, path } = address;
  const common = {
    ...(username !== "" && { username }),
    ...(password !== "" && { password }),
    ...(hasTls && { tls: {} }),
    commandTimeout: commandTimeoutMs,
    connectTimeout: commandTimeoutMs,
    // Closes a silent connection. Longer than commandTimeout, so that a slow reply does not close it.
    socketTimeout: 2 * commandTimeoutMs,
    maxRetriesPerRequest: 0,
  };
  const again = { enableOfflineQueue: false, retryStrategy: (attempt: number) => Math.min(50 * 2 ** attempt, 2000) };
  switch (kind) {
    case "single":
      return new Redis({ ...common, ...again, ...hosts[0], db: Number(path) });
    case "sentinel":
      // failoverDetector disconnects from a master that was replaced and still answers.
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
        // A command to a lost master is not sent to its replica, which may lack earlier writes.
        retryDelayOnFailover: 0,
        retryDelayOnClusterDown: 0,
      });
  }
}
