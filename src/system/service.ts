import type { Cluster, Redis } from "ioredis";
import type { SystemService } from "#gen/tollgate/v1/system_pb.js";
import type { Handlers } from "../core/call.ts";
import { notFound } from "../core/errors.ts";
import type { Database } from "../storage/database.ts";
import type { Files } from "./files.ts";
import type { Version } from "./version.ts";

export interface SystemOptions {
  readonly database: Database;
  /** Undefined where the installation has none. */
  readonly redis: Redis | Cluster | undefined;
  readonly files: Files;
  readonly version: Version;
}

export function systemHandlers({ database, redis, files, version }: SystemOptions): Handlers<typeof SystemService> {
  return {
    async check() {
      // Without the database nothing works: the failure is the answer, 503.
      await database.raw("select 1");
      // Without Redis the service goes on, at half its worth.
      const answers = redis === undefined || (await redis.ping().then(Boolean, () => false));
      return { health: answers ? 1 : 0.5 };
    },

    async version() {
      return version;
    },

    async file({ filename }, call) {
      const data = files.get(filename);
      if (data === undefined) throw notFound("file", filename);
      call.responseHeader.set("content-disposition", `inline; filename="${filename}"`);
      call.responseHeader.set("content-security-policy", "default-src 'none'; style-src 'unsafe-inline'");
      call.responseHeader.set("x-content-type-options", "nosniff");
      return { contentType: "text/html; charset=utf-8", data };
    },
  };
}
