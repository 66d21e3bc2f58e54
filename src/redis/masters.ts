import { Cluster, type Redis } from "ioredis";

/** Returns the servers that hold the keys: the masters of a Cluster that are known, or the one server. */
export function mastersOf(redis: Redis | Cluster): Redis[] {
  return redis instanceof Cluster ? redis.nodes("master") : [redis];
}
