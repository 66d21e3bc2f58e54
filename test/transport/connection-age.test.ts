import { once } from "node:events";
import { Agent, type IncomingMessage, request } from "node:http";
import { connect as connectHttp2 } from "node:http2";
import { text } from "node:stream/consumers";
import { afterEach, expect, test } from "vitest";
import { defaultLimits, drawConnectionEnd } from "../../src/transport/connections.ts";
import { getHttp2, openListener, stopAll } from "../support/listener.ts";

afterEach(stopAll);

const limits = { ...defaultLimits, maxConnectionAgeMs: 100 };

test("an old HTTP/2 connection takes no further calls and finishes the running one", async () => {
  const { port, held } = await openListener({ limits });
  const session = connectHttp2(`http://127.0.0.1:${port}`);
  const goaway = once(session, "goaway");
  const closed = once(session, "close");
  const answer = getHttp2(session, "/hold");
  const running = await held();
  const [code] = await goaway;
  expect(code).toBe(0);
  running.end("finished");
  expect(await answer).toBe("finished");
  await closed;
});

test("an old HTTP/1.1 connection closes after its next answer", async () => {
  const { port } = await openListener({ limits });
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  const get = async () => {
    const [response] = (await once(request({ host: "127.0.0.1", port, agent }).end(), "response")) as [IncomingMessage];
    await text(response);
    return response.headers.connection;
  };
  expect(await get()).toBe("keep-alive");
  let connection: string | undefined;
  do connection = await get();
  while (connection === "keep-alive");
  expect(connection).toBe("close");
  agent.destroy();
});

test("the age varies by a tenth, and 0 is no limit", () => {
  const startMs = performance.now();
  const ages = Array.from({ length: 200 }, () => drawConnectionEnd(1_000_000) - startMs);
  expect(Math.min(...ages)).toBeGreaterThanOrEqual(900_000);
  expect(Math.max(...ages)).toBeLessThan(1_101_000);
  expect(new Set(ages.map(Math.round)).size).toBeGreaterThan(100);
  expect(drawConnectionEnd(0)).toBe(Number.POSITIVE_INFINITY);
});
