import { writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { create, toBinary } from "@bufbuild/protobuf";
import { encodeEnvelope } from "@connectrpc/connect/protocol";
import { AcquireQuotaRequestSchema } from "#gen/tollgate/v1/lease_pb.js";
import { median, timed } from "../fixture.ts";
import { compareWithLedger } from "./ledger-row.ts";
import { compare, h2load, load, redisBenchmark, wrk } from "./measure.ts";
import { type Server, serviceOf, startServer } from "./processes.ts";
import { type MakeRows, perCore, type Row, row, speedOf, startRival } from "./row.ts";
import { prepareScript } from "./script.ts";
import { compareWorkers } from "./worker-row.ts";

const callers = 64;

const texts: Readonly<Record<string, string>> = {
  service: "whole service",
  "grpc-server": "bare decision, our gRPC server",
  "grpc-js": "bare decision, grpc-js",
  adapter: "bare decision, connectNodeAdapter",
  fastify: "rate-limiter-flexible, Fastify",
};

export const rows: Readonly<Record<string, MakeRows>> = {
  /** Acquire and settle. The service authenticates, and writes ledger, usage and audit log. The rivals do not. */
  async a(fixture) {
    const [grpcServer, grpcJs, adapter, fastify] = (await Promise.all(
      ["grpc-server", "grpc-js", "adapter", "fastify"].map((name) => startRival(name, fixture)),
    )) as [Server, Server, Server, Server];
    const script = await prepareScript(fixture);
    const pairs = (name: string, server: Server, token = "") => ({
      name,
      server,
      load: () => load("pairs", server.url, token, callers),
    });
    const speeds = await compare([
      pairs("service", fixture.server, fixture.token),
      pairs("grpc-server", grpcServer),
      pairs("grpc-js", grpcJs),
      pairs("adapter", adapter),
      { name: "fastify", server: fastify, load: () => load("consume", fastify.url, "", callers) },
      { name: "redis", load: () => redisBenchmark(fixture.environment.REDIS_URL ?? "", script, 1) },
    ]);
    await Promise.all([grpcServer, grpcJs, adapter, fastify].map((server) => server.stop()));
    const against = (subject: string, rival: string, aim: number) => {
      const [subjectSpeed, rivalSpeed] = [speedOf(speeds, subject), speedOf(speeds, rival)];
      const what = `acquire+settle, ${texts[subject]} | ${texts[rival]}`;
      return [
        row("a", what, `pairs ${perCore}`, [subjectSpeed.perCoreSecond, rivalSpeed.perCoreSecond], aim),
        row("a", what, "pairs/s", [subjectSpeed.wall, rivalSpeed.wall], aim),
      ];
    };
    const calls = [2 * speedOf(speeds, "service").wall, speedOf(speeds, "redis").wall] as const;
    return [
      ...against("grpc-server", "grpc-js", 1.3),
      ...against("grpc-server", "adapter", 6),
      ...against("service", "grpc-js", 1.3),
      ...against("service", "adapter", 6),
      ...against("service", "fastify", 3),
      row("a", "calls of these pairs, whole service | redis-benchmark, same script", "calls/s", calls, 0.4),
    ];
  },

  async b(fixture) {
    const script = await prepareScript(fixture);
    const speeds = await compare([
      { name: "batch", server: fixture.server, load: () => load("batch", fixture.server.url, fixture.token, 8) },
      { name: "stream", server: fixture.server, load: () => load("stream", fixture.server.url, fixture.token, 8) },
      { name: "redis", load: () => redisBenchmark(fixture.environment.REDIS_URL ?? "", script, 100) },
    ]);
    const redis = speedOf(speeds, "redis").wall;
    return ["batch", "stream"].map((name) =>
      row("b", `${name} of acquires | redis-benchmark -P 100`, "decisions/s", [speedOf(speeds, name).wall, redis], 0.7),
    );
  },

  async c(fixture) {
    const request = {
      username: "exhausted",
      service: 1,
      methodGroup: 3,
      points: 3,
      operationId: "11111111-2222-3333-4444-555555555555",
    };
    const body = join(tmpdir(), "tollgate-refused.bin");
    await writeFile(
      body,
      encodeEnvelope(0, toBinary(AcquireQuotaRequestSchema, create(AcquireQuotaRequestSchema, request))),
    );
    const headers = ["content-type: application/grpc", "te: trailers", `authorization: Bearer ${fixture.token}`];
    const path = `${fixture.server.url}/tollgate.v1.QuotaService/AcquireQuota`;
    const speeds = await compare([
      {
        name: "refusals",
        server: fixture.server,
        load: () => h2load(path, ["-d", body, ...headers.flatMap((header) => ["-H", header])]),
      },
      {
        name: "grants",
        server: fixture.server,
        load: () => load("grants", fixture.server.url, fixture.token, callers),
      },
    ]);
    const [refusals, grants] = [speedOf(speeds, "refusals"), speedOf(speeds, "grants")];
    return [row("c", "refusals | grants", `decisions ${perCore}`, [refusals.perCoreSecond, grants.perCoreSecond], 0.9)];
  },

  async d(fixture) {
    const script = await prepareScript(fixture);
    const ours: number[][] = [];
    const bare: number[][] = [];
    for (let round = 0; round < 4; round += 1) {
      const serviceLatency = await load("latency", fixture.server.url, fixture.token, 1000);
      const scriptLatency = await load(
        "script",
        fixture.environment.REDIS_URL ?? "",
        JSON.stringify(script.slice(1)),
        1000,
      );
      if (round === 0) continue;
      ours.push([serviceLatency.p50, serviceLatency.p99, serviceLatency.p999]);
      bare.push([scriptLatency.p50, scriptLatency.p99, scriptLatency.p999]);
    }
    return ["p50", "p99", "p99.9"].map((name, index) => {
      const [serviceMs, scriptMs] = [ours, bare].map((all) =>
        median(all.map((round) => round[index] ?? Number.NaN)),
      ) as [number, number];
      const aim = name === "p99" ? "≤ 3" : "";
      return {
        row: "d",
        what: `${name} of acquire at 1,000/s | bare EVALSHA`,
        unit: "ms",
        ours: serviceMs,
        rivals: scriptMs,
        ratio: serviceMs / scriptMs,
        aim,
      };
    });
  },

  async e(fixture) {
    const fastify = await startRival("fastify", fixture);
    const header = ["-H", `Authorization: Bearer ${fixture.token}`];
    const paths = { "one user": "/admin/users/user_7", "a page of 50 users": "/admin/users?limit=50" };
    const made: Row[] = [];
    for (const [what, path] of Object.entries(paths)) {
      const speeds = await compare([
        { name: "ours", server: fixture.server, load: () => wrk(`${fixture.server.url}${path}`, header) },
        { name: "fastify", server: fastify, load: () => wrk(`${fastify.url}${path}`, header) },
      ]);
      const [ours, theirs] = [speedOf(speeds, "ours"), speedOf(speeds, "fastify")];
      made.push(
        row("e", `${what} | Fastify + pg`, `requests ${perCore}`, [ours.perCoreSecond, theirs.perCoreSecond], 0.8),
      );
      made.push(row("e", `${what} | Fastify + pg`, "requests/s", [ours.wall, theirs.wall], 0.8));
    }
    await fastify.stop();
    return made;
  },

  async f(fixture) {
    const post = join(tmpdir(), "tollgate-check.lua");
    const body = '{"username":"user_7","service":"UNIVERSAL","method_group":"PLAN","points":3}';
    await writeFile(
      post,
      `wrk.method = "POST"\nwrk.body = '${body}'\nwrk.headers["Content-Type"] = "application/json"\nwrk.headers["Authorization"] = "Bearer ${fixture.token}"\n`,
    );
    const empty = join(tmpdir(), "tollgate-empty.lua");
    await writeFile(empty, 'wrk.method = "POST"\nwrk.body = "{}"\nwrk.headers["Content-Type"] = "application/json"\n');
    const { server } = fixture;
    const methods = {
      check: ["/quota/leases:check", "QuotaService/CheckQuota", post],
      version: ["/admin/system/version", "SystemService/Version", empty],
    } as const;
    const made: Row[] = [];
    for (const [what, [path, method, script]] of Object.entries(methods)) {
      const speeds = await compare([
        { name: "gateway", server, load: () => wrk(`${server.url}${path}`, what === "check" ? ["-s", script] : []) },
        { name: "connect", server, load: () => wrk(`${server.url}/tollgate.v1.${method}`, ["-s", script]) },
      ]);
      const [gateway, connect] = [speedOf(speeds, "gateway"), speedOf(speeds, "connect")];
      const text = `${what} by the gateway | by Connect's JSON`;
      made.push(row("f", text, `requests ${perCore}`, [gateway.perCoreSecond, connect.perCoreSecond], 4));
      made.push(row("f", text, "requests/s", [gateway.wall, connect.wall], 4));
    }
    return made;
  },

  async g() {
    const folder = join(tmpdir(), `tollgate-cold-${process.pid}`);
    const start = async () => {
      const server = await startServer(serviceOf("."), { DATA_DIR: folder, LOG_LEVEL: "error" }, "any");
      const response = await fetch(`${server.url}/admin/system/version`);
      if (!response.ok) throw new Error(await response.text());
      return server;
    };
    await (await start()).stop();
    const times: number[] = [];
    for (let round = 0; round < 3; round += 1) {
      let server: Server | undefined;
      times.push(await timed(async () => (server = await start())));
      await server?.stop();
    }
    const ours = median(times) / 1000;
    return [
      {
        row: "g",
        what: "second start, embedded, to the first answer",
        unit: "s",
        ours,
        rivals: Number.NaN,
        ratio: Number.NaN,
        aim: "< 3",
      },
    ];
  },

  h: compareWorkers,

  /** The client library: 64 callers of createQuotaClient beside 64 callers of the same client without it, and one of each. */
  async i(fixture) {
    const { server, token } = fixture;
    const speeds = await compare(
      ["client", "coalesced"].map((name) => ({ name, server, load: () => load(name, server.url, token, callers) })),
    );
    const times = { client: [] as number[], coalesced: [] as number[] };
    for (let round = 0; round < 4; round += 1) {
      for (const name of ["client", "coalesced"] as const) {
        const { p50 } = await load(name, server.url, token, 1);
        if (round > 0) times[name].push(p50);
      }
    }
    const [unary, coalesced] = [speedOf(speeds, "client"), speedOf(speeds, "coalesced")];
    const what = "acquire+settle of 64 callers, createQuotaClient | unary calls";
    const alone = row(
      "i",
      "acquire+settle of a lone caller, unary calls | createQuotaClient",
      "ms, p50",
      [median(times.client), median(times.coalesced)],
      0.95,
    );
    return [
      row("i", what, "pairs/s", [coalesced.wall, unary.wall], 4),
      row("i", what, `pairs ${perCore}`, [coalesced.perCoreSecond, unary.perCoreSecond], 3),
      alone,
    ];
  },

  j: compareWithLedger,
};
