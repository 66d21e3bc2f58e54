import { Cluster, type Redis } from "ioredis";

/** Runs `send`. The commands that it sends to a Redis, before it returns, leave in one write. */
export function inOneWrite(redis: Redis | Cluster, send: () => void): void {
  const nodes: readonly { readonly stream: Redis["stream"] | undefined }[] =
    redis instanceof Cluster ? redis.nodes("master") : [redis];
  // There is no stream before the first connect.
  const streams = nodes.flatMap(({ stream }) => stream ?? []);
  for (const stream of streams) stream.cork();
  try {
    send();
  } finally {
    for (const stream of streams) stream.uncork();
  }
}
