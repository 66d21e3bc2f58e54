import type { Logger } from "pino";
import { sendWebhook } from "../alerts/webhook.ts";
import { startAuditSink } from "../audit/sink.ts";
import { readUnsentAge } from "../audit/sink-outbox.ts";
import type { Config } from "../config.ts";
import { createRecentValue } from "../metrics/recent-value.ts";
import type { AuditSinkSource } from "../metrics/sources.ts";
import type { Database } from "../postgres/database.ts";
import type { Closers } from "./closers.ts";

interface SinkResources {
  readonly database: Database;
  /** Reads the metrics, also while all connections of the calls are in use. */
  readonly publicDatabase: Database;
  readonly logger: Logger;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
}

const sinkTimeoutMs = 10_000;

/** Starts the sending of audit actions. Returns undefined without AUDIT_SINK_URL. */
export function openAuditSink(config: Config, resources: SinkResources, closers: Closers): AuditSinkSource | undefined {
  const { AUDIT_SINK_URL: url, AUDIT_SINK_SECRET: keys } = config;
  const { database, publicDatabase, logger, now } = resources;
  if (url === "") return undefined;
  const send = (batch: Parameters<typeof sendWebhook>[0]) =>
    sendWebhook(batch, { url, keys, timeoutMs: sinkTimeoutMs, now });
  const sink = startAuditSink({ database, logger, send });
  closers.push(() => sink.stop());
  return { counts: sink.counts, unsentAge: createRecentValue(() => readUnsentAge(publicDatabase)) };
}
