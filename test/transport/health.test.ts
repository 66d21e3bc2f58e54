import { Code, ConnectError, createClient, createHandlerContext } from "@connectrpc/connect";
import { connectNodeAdapter, createGrpcTransport } from "@connectrpc/connect-node";
import { afterEach, expect, test } from "vitest";
import { Health, HealthCheckResponse_ServingStatus as Status } from "#gen/grpc/health/v1/health_pb.js";
import { createHealth } from "../../src/transport/health.ts";
import type { ListenerOptions } from "../../src/transport/listener.ts";
import { openListener, stopAll } from "../support/listener.ts";

afterEach(stopAll);

async function openHealth() {
  const health = createHealth(["example.Known"]);
  const onRequest = connectNodeAdapter({
    routes: (router) => router.service(Health, health.implementation),
  }) as ListenerOptions["onRequest"];
  const { port } = await openListener({ onRequest });
  return { health, client: createClient(Health, createGrpcTransport({ baseUrl: `http://127.0.0.1:${port}` })) };
}

/** Reads the statuses of a watch one at a time. Undefined at its end. */
function reader(watch: AsyncIterable<{ status: Status }>): () => Promise<Status | undefined> {
  const statuses = watch[Symbol.asyncIterator]();
  return async () => {
    const { done, value } = await statuses.next();
    return done ? undefined : value.status;
  };
}

test("a check of the server or of a known service answers SERVING", async () => {
  const { client, health } = await openHealth();
  expect((await client.check({})).status).toBe(Status.SERVING);
  expect((await client.check({ service: "example.Known" })).status).toBe(Status.SERVING);
  expect(health.check()).toBe(Status.SERVING);
});

test("a check of an unknown service fails with NOT_FOUND", async () => {
  const { client } = await openHealth();
  const error = await client
    .check({ service: "example.Unknown" })
    .catch((reason: unknown) => ConnectError.from(reason));
  expect(error).toMatchObject({ code: Code.NotFound });
});

test("lists the status of the server and of each known service", async () => {
  const { client, health } = await openHealth();
  health.set(Status.NOT_SERVING);
  const { statuses } = await client.list({});
  expect(Object.keys(statuses).toSorted()).toEqual(["", "example.Known"]);
  expect(statuses["example.Known"]?.status).toBe(Status.NOT_SERVING);
});

test("a watch sends every change once and ends at the stop", async () => {
  const { client, health } = await openHealth();
  const next = reader(client.watch({ service: "example.Known" }));
  expect(await next()).toBe(Status.SERVING);
  health.set(Status.NOT_SERVING);
  expect(await next()).toBe(Status.NOT_SERVING);
  health.set(Status.NOT_SERVING);
  health.set(Status.SERVING);
  expect(await next()).toBe(Status.SERVING);
  health.stop();
  expect(await next()).toBe(Status.NOT_SERVING);
  expect(await next()).toBeUndefined();
});

test("a watch of an unknown service sends SERVICE_UNKNOWN, stays open, and ends at the stop", async () => {
  const { client, health } = await openHealth();
  const next = reader(client.watch({ service: "example.Unknown" }));
  expect(await next()).toBe(Status.SERVICE_UNKNOWN);
  let ended = false;
  const end = next().finally(() => {
    ended = true;
  });
  // A message of the watch would arrive before the response to this later call on the same connection.
  health.set(Status.NOT_SERVING);
  await client.check({});
  expect(ended).toBe(false);
  health.stop();
  expect(await end).toBeUndefined();
});

test("a watch ends when its client cancels", async () => {
  const health = createHealth([]);
  const context = createHandlerContext({
    service: Health,
    method: Health.method.watch,
    protocolName: "grpc",
    requestMethod: "POST",
    url: "http://127.0.0.1/grpc.health.v1.Health/Watch",
  });
  const watch = health.implementation.watch({ $typeName: "grpc.health.v1.HealthCheckRequest", service: "" }, context);
  const next = reader(watch as AsyncIterable<{ status: Status }>);
  expect(await next()).toBe(Status.SERVING);
  const end = next();
  context.abort();
  expect(await end).toBeUndefined();
});

test("a stopped server stays NOT_SERVING, and a later watch gets that status and ends", async () => {
  const { client, health } = await openHealth();
  health.stop();
  health.set(Status.SERVING);
  expect((await client.check({})).status).toBe(Status.NOT_SERVING);
  const next = reader(client.watch({}));
  expect(await next()).toBe(Status.NOT_SERVING);
  expect(await next()).toBeUndefined();
});
