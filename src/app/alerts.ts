import type { Logger } from "pino";
import { type DeliveryCounts, startDelivery } from "../alerts/delivery.ts";
import { sendWebhook } from "../alerts/webhook.ts";
import { createAlertWriter } from "../alerts/writer.ts";
import type { Config } from "../config.ts";
import type { Database } from "../postgres/database.ts";
import { windowAt } from "../quotas/counters/window.ts";
import { methodKey, type Subjects } from "../quotas/limits/subjects.ts";
import type { AlertWriter } from "../shared/alerts.ts";
import { dayAt } from "../shared/calendar.ts";
import type { Closers } from "./closers.ts";

export interface AlertResources {
  readonly database: Database;
  readonly logger: Logger;
  readonly subjects: Subjects;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
}

const sendTimeoutMs = 10_000;
/** Users are cached with the quotas of the days around now: those of earlier days are unknown. */
const lateDays = 3;

export interface Alerts {
  readonly writer: AlertWriter;
  readonly counts: DeliveryCounts;
}

/** Opens the alerts. Returns undefined without WEBHOOK_URL. */
export function openAlerts(config: Config, resources: AlertResources, closers: Closers): Alerts | undefined {
  const { database, logger, subjects, now } = resources;
  const { WEBHOOK_URL: url, WEBHOOK_SECRET: keys, ALERT_THRESHOLDS: thresholds, SERVER_NAME: serverName } = config;
  if (url === "") return undefined;
  const send = (webhook: Parameters<typeof sendWebhook>[0]) =>
    sendWebhook(webhook, { url, keys, timeoutMs: sendTimeoutMs, now });
  const delivery = startDelivery({ database, logger, send });
  closers.push(() => delivery.stop());
  const writer = createAlertWriter({
    thresholds,
    serverName,
    scheduleDelivery: () => delivery.schedule(),
    async limitsOf({ username, userId, service, methodGroup, day }) {
      if (day < dayAt(now(), 0) - lateDays) return undefined;
      const subject = subjects.peek(username) ?? (await subjects.byName(username));
      if (subject?.userId !== userId) return undefined;
      const { limits, window } = windowAt(day, subject.quotas.get(methodKey(service, methodGroup)) ?? []);
      if (limits === undefined) return undefined;
      const { pointsPerDay, pointsPerDateWindow } = limits;
      return { pointsPerDay, pointsPerDateWindow, window, thresholds: subject.alertThresholds };
    },
  });
  return { writer, counts: delivery.counts };
}
