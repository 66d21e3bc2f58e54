import { createHash } from "node:crypto";
import type { SystemService } from "#gen/tollgate/v1/system_pb.js";
import type { Handlers } from "../core/call.ts";
import { notFound } from "../core/errors.ts";
import type { Files } from "./files.ts";
import type { Probe } from "./probe.ts";
import type { Version } from "./version.ts";

export interface SystemOptions {
  readonly probe: Probe;
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
      call.responseHeader.set("content-security-policy", policyOf(file.data));
      call.responseHeader.set("cache-control", "public, max-age=300");
      return { file };
    },
  };
}

/** Permits the styles of a page, and by its hash the one script that the generator wrote into it. */
function policyOf(page: Buffer): string {
  const script = /<script>([\s\S]*?)<\/script>/.exec(page.toString("utf8"))?.[1];
  const hash = createHash("sha256")
    .update(script ?? "")
    .digest("base64");
  return `default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-${hash}'`;
}
