import { isIPv6 } from "node:net";
import type { Logger } from "pino";
import type { Config } from "../config.ts";
import type { CallCounts } from "../pipeline/call-counts.ts";
import { createErrorBodies } from "../pipeline/error-body.ts";
import type { Pipeline, Route } from "../pipeline/pipeline.ts";
import { defaultLimits } from "../transport/connections.ts";
import { startServer } from "../transport/server.ts";
import type { UnauthenticatedConnections } from "../transport/unauthenticated.ts";
import type { Closers } from "./closers.ts";
import { withSettingNames } from "./setting-errors.ts";
import { followTlsFiles, readTlsFiles } from "./tls-files.ts";

export interface ListenerResources {
  readonly routes: readonly Route[];
  readonly pipeline: Pipeline;
  readonly calls: CallCounts | undefined;
  readonly unauthenticated: UnauthenticatedConnections;
  readonly logger: Logger;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
}

/**
 * Serves the routes on HOST and PORT. Closing drains: running calls have DRAIN_MS to end.
 * @returns the address that a client on this machine can use, and how to tell load balancers of the drain
 */
export async function openListener(
  config: Config,
  { routes, pipeline, calls, unauthenticated, logger, now }: ListenerResources,
  closers: Closers,
): Promise<{ readonly url: string; readonly announceDrain: () => void }> {
  const tls = await withSettingNames("TLS_CERT and TLS_KEY", readTlsFiles(config));
  const serving = startServer({
    routes,
    pipeline,
    describeError: createErrorBodies({ serverName: config.SERVER_NAME, now, logger, calls }, pipeline),
    calls,
    unauthenticated,
    host: config.HOST,
    port: config.PORT,
    tls,
    limits: { ...defaultLimits, maxConnectionAgeMs: config.MAX_CONNECTION_AGE_MS },
    maxBodyBytes: config.MAX_BODY_BYTES,
    bodyTimeoutMs: config.BODY_TIMEOUT_MS,
    trustedProxies: config.TRUSTED_PROXIES,
    corsOrigins: config.CORS_ORIGINS,
    onAcceptError: (error) => logger.error({ err: error }, "a connection could not be accepted"),
  });
  const listener = await withSettingNames("HOST and PORT", serving);
  closers.push(() => listener.drain(config.DRAIN_MS));
  if (tls !== undefined && listener.replaceTls !== undefined) {
    const stop = followTlsFiles(config, { first: tls, replace: listener.replaceTls, logger });
    closers.push(async () => stop());
  }
  const url = `${tls === undefined ? "http" : "https"}://${urlHost(config.HOST)}:${listener.port}`;
  return { url, announceDrain: listener.announceDrain };
}

/** Returns the host for a URL: wildcard addresses become loopback, IPv6 addresses get brackets. */
export function urlHost(host: string): string {
  if (host === "0.0.0.0") return "127.0.0.1";
  if (host === "::") return "[::1]";
  return isIPv6(host) ? `[${host.replace("%", "%25")}]` : host;
}
