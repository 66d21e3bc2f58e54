import { readFile } from "node:fs/promises";
import { isIPv6 } from "node:net";
import { createSecureContext } from "node:tls";
import type { Logger } from "pino";
import type { Config } from "../config.ts";
import { createErrorBodies } from "../pipeline/error-body.ts";
import type { Pipeline, Route } from "../pipeline/pipeline.ts";
import { startServer } from "../transport/server.ts";
import type { UnauthenticatedConnections } from "../transport/unauthenticated.ts";
import type { Closers } from "./closers.ts";
import { withSettingNames } from "./setting-errors.ts";

export interface ListenerResources {
  readonly routes: readonly Route[];
  readonly pipeline: Pipeline;
  readonly unauthenticated: UnauthenticatedConnections;
  readonly logger: Logger;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
}

/**
 * Serves the routes on HOST and PORT. Closing drains: running calls have DRAIN_MS to end.
 * @returns the address that a client on this machine can use
 */
export async function openListener(
  config: Config,
  { routes, pipeline, unauthenticated, logger, now }: ListenerResources,
  closers: Closers,
): Promise<string> {
  const tls = await withSettingNames("TLS_CERT and TLS_KEY", readTls(config));
  const serving = startServer({
    routes,
    pipeline,
    describeError: createErrorBodies({ serverName: config.SERVER_NAME, now, logger }, pipeline),
    unauthenticated,
    host: config.HOST,
    port: config.PORT,
    tls,
    maxBodyBytes: config.MAX_BODY_BYTES,
    bodyTimeoutMs: config.BODY_TIMEOUT_MS,
    trustedProxies: config.TRUSTED_PROXIES,
    onAcceptError: (error) => logger.error({ err: error }, "a connection could not be accepted"),
  });
  const listener = await withSettingNames("HOST and PORT", serving);
  closers.push(() => listener.drain(config.DRAIN_MS));
  return `${tls === undefined ? "http" : "https"}://${urlHost(config.HOST)}:${listener.port}`;
}

async function readTls({ TLS_CERT, TLS_KEY }: Config): Promise<{ cert: string; key: string } | undefined> {
  if (TLS_CERT === "") return undefined;
  const [cert, key] = await Promise.all([readFile(TLS_CERT, "utf8"), readFile(TLS_KEY, "utf8")]);
  // Throws when the certificate is invalid or does not match the key.
  createSecureContext({ cert, key });
  return { cert, key };
}

/** Returns the host for a URL: wildcard addresses become loopback, IPv6 addresses get brackets. */
function urlHost(host: string): string {
  if (host === "0.0.0.0") return "127.0.0.1";
  if (host === "::") return "[::1]";
  return isIPv6(host) ? `[${host.replace("%", "%25")}]` : host;
}
