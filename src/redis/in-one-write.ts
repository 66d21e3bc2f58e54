import type { Cluster, Redis } from "ioredis";
import { mastersOf } from "./masters.ts";

/** Runs `send`. The commands that it sends to a Redis, before it returns, leave in one write. */
export function inOneWrite(redis: Redis | Cluster, send: () => void): void {
  const nodes: readonly { readonly stream: Redis["stream"] | undefined }[] = mastersOf(redis);
  // There is no stream before the first connect.
  const streams = nodes.flatMap(({ stream }) => stream ?? []);
  for (const stream of streams) stream.cork();
  try {
    send();
  } finally {
    for (const stream of streams) stream.uncork();
  }
}
