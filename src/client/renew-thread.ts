/** What the thread is told: to renew a lease from now on, or no more. */
export type ThreadOrder =
  | { readonly kind: "stop"; readonly key: number }
  | {
      readonly kind: "start";
      readonly key: number;
      /** Of the RPC. */
      readonly url: string;
      readonly headers: Readonly<Record<string, string>>;
      /** JSON of the request. */
      readonly body: string;
      readonly intervalMs: number;
    };

/**
 * The program of the thread, which renews by JSON over HTTP. A text: it runs the same from the sources, from dist and
 * from a bundle, where a file of its own would not be found. Says "ready" when it takes orders.
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
      // A body that is not read keeps its connection. The next attempt may succeed where this one fails.
      .then((response) => response.arrayBuffer())
      .catch(() => undefined);
  };
  timers.set(order.key, setInterval(renew, intervalMs));
});
parentPort.postMessage("ready");
`;
