import { Cluster, type Redis } from "ioredis";

/**
 * Holds back the commands of this turn of the event loop, so that all of them leave in one write to each Redis. Call it
 * before a command.
 */
export function shareWrite(redis: Redis | Cluster): void {
  if (redis instanceof Cluster) for (const node of redis.nodes("master")) holdBack(node);
  else holdBack(redis);
}

function holdBack({ stream }: { readonly stream: Redis["stream"] | undefined }): void {
  // There is no stream before the first connect.
  if (stream === undefined || stream.writableCorked > 0) return;
  stream.cork();
  setImmediate(() => stream.uncork());
}
