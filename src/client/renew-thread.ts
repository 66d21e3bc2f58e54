/** An order to the thread: start or stop the renewals of a lease. */
export type ThreadOrder =
  | { readonly kind: "stop"; readonly key: number }
  | {
      readonly kind: "start";
      readonly key: number;
      /** The URL of the RPC. */
      readonly url: string;
      readonly headers: Readonly<Record<string, string>>;
      /** The JSON of the request. */
      readonly body: string;
      readonly intervalMs: number;
    };

/**
 * The program of the thread, which renews by JSON over HTTP. It is a text, so that it runs from the sources, from dist and
 * from a bundle, where a separate file would not be found. Posts "ready" when it accepts orders.
 */
export const renewThreadProgram = `
const { parentPort } = require("node:worker_threads");
const timers = new Map();
parentPort.on("message", (order) => {
  clearInterval(timers.get(order.key));
  timers.delete(order.key);
  if (order.kind === "stop") return;
  const { url, headers, body, intervalMs } = order;
  const renew = () => {
    fetch(url, {
      method: "POST",
      headers: { ...headers, "content-type": "application/json", "connect-protocol-version": "1" },
      body,
      signal: AbortSignal.timeout(intervalMs),
    })
      // An unread body would hold its connection. A failed attempt is followed by the next one.
      .then((response) => response.arrayBuffer())
      .catch(() => undefined);
  };
  timers.set(order.key, setInterval(renew, intervalMs));
});
parentPort.postMessage("ready");
`;
