import { writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { create, toBinary } from "@bufbuild/protobuf";
import { encodeEnvelope } from "@connectrpc/connect/protocol";
import { AcquireQuotaRequestSchema } from "#gen/tollgate/v1/lease_pb.js";
import { median, timed } from "../stand.ts";
import { compare, h2load, load, redisBenchmark, type Speed, wrk } from "./measure.ts";
import { type Server, service, startServer } from "./processes.ts";
import { prepareScript } from "./script.ts";
import type { Stand } from "./stand.ts";

/** One comparison of the table. */
export interface Row {
  readonly row: string;
  readonly what: string;
  readonly unit: string;
  readonly ours: number;
  readonly rivals: number;
  /** Ours for one of the rival's, or where less is better the rival's for one of ours. */
  readonly ratio: number;
  readonly aim: string;
}

export type MakeRows = (stand: Stand) => Promise<Row[]>;

const callers = 64;
const perCore = "per core-second";

function row(name: string, what: string, unit: string, [ours, rivals]: readonly [number, number], aim: number): Row {
  return { row: name, what, unit, ours, rivals, ratio: ours / rivals, aim: `≥ ${aim}` };
}

function speedOf(speeds: ReadonlyMap<string, Speed>, name: string): Speed {
  return speeds.get(name) ?? { wall: Number.NaN, perCoreSecond: Number.NaN };
}

function startRival(name: string, { environment }: Stand): Promise<Server> {
  const script = new URL(`servers/${name}.ts`, import.meta.url).pathname;
  return startServer([process.execPath, "--import", "tsx", script], environment);
}

const texts: Readonly<Record<string, string>> = {
  service: "whole service",
  "grpc-server": "bare decision, our gRPC server",
  "grpc-js": "bare decision, grpc-js",
  adapter: "bare decision, connectNodeAdapter",
  fastify: "rate-limiter-flexible, Fastify",
};

export const rows: Readonly<Record<string, MakeRows>> = {
  /** Acquire and settle. Ours asks who is calling, writes the ledger, the usage and the audit log; the rivals do not. */
  async a(stand) {
    const [grpcServer, grpcJs, adapter, fastify] = (await Promise.all(
      ["grpc-server", "grpc-js", "adapter", "fastify"].map((name) => startRival(name, stand)),
    )) as [Server, Server, Server, Server];
    const script = await prepareScript(stand);
    const pairs = (name: string, server: Server, token = "") => ({
      name,
      server,
      load: () => load("pairs", server.url, token, callers),
    });
    const speeds = await compare([
      pairs("service", stand.server, stand.token),
      pairs("grpc-server", grpcServer),
      pairs("grpc-js", grpcJs),
      pairs("adapter", adapter),
      { name: "fastify", server: fastify, load: () => load("consume", fastify.url, "", callers) },
      { name: "redis", load: () => redisBenchmark(stand.environment.REDIS_URL ?? "", script, 1) },
    ]);
    await Promise.all([grpcServer, grpcJs, adapter, fastify].map((server) => server.stop()));
    const against = (ours: string, theirs: string, aim: number) => {
      const [mine, other] = [speedOf(speeds, ours), speedOf(speeds, theirs)];
      const what = `acquire+settle, ${texts[ours]} | ${texts[theirs]}`;
      return [
        row("a", what, `pairs ${perCore}`, [mine.perCoreSecond, other.perCoreSecond], aim),
        row("a", what, "pairs/s", [mine.wall, other.wall], aim),
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

  async b(stand) {
    const script = await prepareScript(stand);
    const speeds = await compare([
      { name: "batch", server: stand.server, load: () => load("batch", stand.server.url, stand.token, 8) },
      { name: "stream", server: stand.server, load: () => load("stream", stand.server.url, stand.token, 8) },
      { name: "redis", load: () => redisBenchmark(stand.environment.REDIS_URL ?? "", script, 100) },
    ]);
    const redis = speedOf(speeds, "redis").wall;
    return ["batch", "stream"].map((name) =>
      row("b", `${name} of acquires | redis-benchmark -P 100`, "decisions/s", [speedOf(speeds, name).wall, redis], 0.7),
    );
  },

  async c(stand) {
    const asked = {
      username: "exhausted",
      service: 1,
      methodGroup: 3,
      points: 3,
      operationId: "11111111-2222-3333-4444-555555555555",
    };
    const body = join(tmpdir(), "tollgate-refused.bin");
    await writeFile(
      body,
      encodeEnvelope(0, toBinary(AcquireQuotaRequestSchema, create(AcquireQuotaRequestSchema, asked))),
    );
    const headers = ["content-type: application/grpc", "te: trailers", `authorization: Bearer ${stand.token}`];
    const path = `${stand.server.url}/tollgate.v1.QuotaService/AcquireQuota`;
    const speeds = await compare([
      {
        name: "refusals",
        server: stand.server,
        load: () => h2load(path, ["-d", body, ...headers.flatMap((one) => ["-H", one])]),
      },
      { name: "grants", server: stand.server, load: () => load("grants", stand.server.url, stand.token, callers) },
    ]);
    const [refusals, grants] = [speedOf(speeds, "refusals"), speedOf(speeds, "grants")];
    return [row("c", "refusals | grants", `decisions ${perCore}`, [refusals.perCoreSecond, grants.perCoreSecond], 0.9)];
  },

  async d(stand) {
    const script = await prepareScript(stand);
    const ours: number[][] = [];
    const bare: number[][] = [];
    for (let round = 0; round < 4; round += 1) {
      const one = await load("latency", stand.server.url, stand.token, 1);
      const other = await load("script", stand.environment.REDIS_URL ?? "", JSON.stringify(script.slice(1)), 1);
      if (round === 0) continue;
      ours.push([one.p50, one.p99, one.p999]);
      bare.push([other.p50, other.p99, other.p999]);
    }
    return ["p50", "p99", "p99.9"].map((name, index) => {
      const [mine, theirs] = [ours, bare].map((all) => median(all.map((one) => one[index] ?? Number.NaN))) as [
        number,
        number,
      ];
      const aim = name === "p99" ? "≤ 3" : "";
      return {
        row: "d",
        what: `${name} of acquire at 1,000/s | bare EVALSHA`,
        unit: "ms",
        ours: mine,
        rivals: theirs,
        ratio: mine / theirs,
        aim,
      };
    });
  },

  async e(stand) {
    const fastify = await startRival("fastify", stand);
    const header = ["-H", `Authorization: Bearer ${stand.token}`];
    const paths = { "one user": "/admin/users/user_7", "a page of 50 users": "/admin/users?limit=50" };
    const made: Row[] = [];
    for (const [what, path] of Object.entries(paths)) {
      const speeds = await compare([
        { name: "ours", server: stand.server, load: () => wrk(`${stand.server.url}${path}`, header) },
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

  async f(stand) {
    const post = join(tmpdir(), "tollgate-check.lua");
    const body = '{"username":"user_7","service":"UNIVERSAL","method_group":"PLAN","points":3}';
    await writeFile(
      post,
      `wrk.method = "POST"\nwrk.body = '${body}'\nwrk.headers["Content-Type"] = "application/json"\nwrk.headers["Authorization"] = "Bearer ${stand.token}"\n`,
    );
    const empty = join(tmpdir(), "tollgate-empty.lua");
    await writeFile(empty, 'wrk.method = "POST"\nwrk.body = "{}"\nwrk.headers["Content-Type"] = "application/json"\n');
    const { server } = stand;
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
      const server = await startServer(service, { DATA_DIR: folder, LOG_LEVEL: "error" }, "any");
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

  async h(stand) {
    const servers = (await Promise.all(["1", "2"].map((WORKERS) => stand.startService({ WORKERS }, "any")))) as [
      Server,
      Server,
    ];
    const [one, two] = servers;
    const speeds = await compare([
      { name: "1", load: () => load("pairs", one.url, stand.token, callers) },
      { name: "2", load: () => load("pairs", two.url, stand.token, callers) },
    ]);
    await Promise.all(servers.map((server) => server.stop()));
    return [
      {
        ...row(
          "h",
          "WORKERS=2 | WORKERS=1, all on two cores",
          "pairs/s",
          [speedOf(speeds, "2").wall, speedOf(speeds, "1").wall],
          1,
        ),
        aim: "",
      },
    ];
  },
};
