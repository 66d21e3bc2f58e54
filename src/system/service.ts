import type { SystemService } from "#gen/tollgate/v1/system_pb.js";
import { notFound } from "../shared/errors.ts";
import type { Handlers } from "../shared/handler.ts";
import type { Files } from "./files.ts";
import type { HealthProbe } from "./probe.ts";
import type { Version } from "./version.ts";

export interface SystemOptions {
  readonly probe: HealthProbe;
  readonly files: Files;
  readonly version: Version;
}

export function systemHandlers({ probe, files, version }: SystemOptions): Handlers<typeof SystemService> {
  return {
    async check() {
      return { health: await probe() };
    },

    async version() {
      return version;
    },

    async file({ filename }, call) {
      const file = files.get(filename);
      if (file === undefined) throw notFound("file", filename);
      call.responseHeader.set("content-disposition", `inline; filename="${filename}"`);
      call.responseHeader.set("content-security-policy", file.policy);
      call.responseHeader.set("etag", file.etag);
      call.responseHeader.set("cache-control", "public, max-age=300");
      return { file: { contentType: file.contentType, data: file.data } };
    },
  };
}
