import { once } from "node:events";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import type { Logger } from "pino";
import { metricsContentType } from "./collect.ts";

export interface MetricsListenerOptions {
  readonly host: string;
  /** 0 selects a free port. */
  readonly port: number;
  /** Returns the metrics as text. */
  readonly read: () => Promise<string>;
  readonly logger: Logger;
}

export interface MetricsListener {
  readonly port: number;
  close(): Promise<void>;
}

/** Prometheus and a few people. */
const maxConnections = 32;

/**
 * Answers `GET /metrics` on a port of its own, and nothing else. Requests that arrive while the metrics are read share
 * one read.
 * @throws Node's error when it cannot listen on the port
 */
export async function listenForMetrics({ host, port, read, logger }: MetricsListenerOptions): Promise<MetricsListener> {
  let reading: Promise<string> | undefined;

  async function respond(response: ServerResponse): Promise<void> {
    reading ??= read().finally(() => (reading = undefined));
    try {
      const text = await reading;
      response.writeHead(200, { "content-type": metricsContentType }).end(text);
    } catch (error) {
      logger.error({ err: error }, "metrics not read");
      refuse(response, 500);
    }
  }

  const server = createServer({
    headersTimeout: 5000,
    requestTimeout: 5000,
    connectionsCheckingInterval: 5000,
    maxHeaderSize: 8192,
  });
  server.maxConnections = maxConnections;
  server.on("request", (request: IncomingMessage, response: ServerResponse) => {
    if (request.url !== "/metrics") refuse(response, 404);
    else if (request.method !== "GET") refuse(response, 405, { allow: "GET" });
    else void respond(response);
  });
  server.listen(port, host);
  await once(server, "listening");
  server.on("error", (error) => logger.error({ err: error }, "a connection for metrics could not be accepted"));
  return {
    port: (server.address() as AddressInfo).port,
    async close() {
      const closed = once(server, "close");
      server.close();
      server.closeAllConnections();
      await closed;
    },
  };
}

function refuse(response: ServerResponse, status: number, headers: Record<string, string> = {}): void {
  // The connection ends, so that a body is not read.
  response.writeHead(status, { ...headers, "content-length": 0, connection: "close" }).end();
}
