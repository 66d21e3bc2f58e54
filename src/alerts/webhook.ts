import { createHmac } from "node:crypto";

export interface Webhook {
  readonly id: string;
  readonly body: string;
}

export interface WebhookOptions {
  readonly url: string;
  /** The keys of the signatures. A receiver accepts a webhook if one signature is right, so keys can be rotated. */
  readonly keys: readonly Buffer[];
  readonly timeoutMs: number;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
}

/**
 * Sends a webhook with the headers of Standard Webhooks. Resolves when the receiver has answered with 2xx.
 * @throws Error that says why the receiver did not accept it
 */
export async function sendWebhook({ id, body }: Webhook, options: WebhookOptions): Promise<void> {
  const timestamp = Math.floor(options.now() / 1000);
  const response = await fetch(options.url, {
    method: "POST",
    // A redirect would send the body to an address that the settings do not name.
    redirect: "manual",
    signal: AbortSignal.timeout(options.timeoutMs),
    headers: {
      "content-type": "application/json",
      "webhook-id": id,
      "webhook-timestamp": String(timestamp),
      "webhook-signature": options.keys.map((key) => sign(key, `${id}.${timestamp}.${body}`)).join(" "),
    },
    body,
  }).catch((error: unknown) => {
    throw new Error(describe(error), { cause: error });
  });
  await response.body?.cancel();
  if (!response.ok) throw new Error(`the receiver answered ${response.status}`);
}

/** Errors of fetch name the cause in their cause. */
function describe(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return error.cause instanceof Error ? `${error.message}: ${error.cause.message}` : error.message;
}

function sign(key: Buffer, text: string): string {
  return `v1,${createHmac("sha256", key).update(text).digest("base64")}`;
}
