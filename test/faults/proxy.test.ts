import { once } from "node:events";
import { type AddressInfo, connect, createServer } from "node:net";
import { expect, test } from "vitest";
import { startProxy } from "../support/proxy.ts";

test("the proxy keeps the order of what it holds back when the delay ends", async () => {
  const server = createServer((socket) => socket.pipe(socket));
  await once(server.listen(0, "127.0.0.1"), "listening");
  const proxy = await startProxy({ host: "127.0.0.1", port: (server.address() as AddressInfo).port });
  const client = connect(proxy.port, "127.0.0.1").setNoDelay(true);
  await once(client, "connect");
  let received = "";
  client.on("data", (piece) => (received += String(piece)));
  client.write("0");
  await expect.poll(() => received).toBe("0");
  proxy.delay(100);
  client.write("1");
  await new Promise((resolve) => setTimeout(resolve, 20));
  await proxy.restore();
  client.write("2");
  await expect.poll(() => received).toBe("012");
  client.destroy();
  await proxy.close();
  server.close();
});
