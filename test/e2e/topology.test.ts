import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { createClient } from "@connectrpc/connect";
import { createConnectTransport, createGrpcTransport, createGrpcWebTransport } from "@connectrpc/connect-node";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { parse } from "yaml";
import { SystemService } from "#gen/tollgate/v1/system_pb.js";
import { type Closers, closeAll } from "../../src/app/closers.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { samplesOf, scrape } from "../support/metrics.ts";
import { freePort } from "../support/port.ts";
import { type ServerProcess, startProcess } from "../support/process.ts";
import { noOwnRedis, startRedisCluster } from "../support/redis.ts";
import { runTour } from "../support/tour.ts";

const [cert, key] = ["cert.pem", "key.pem"].map((file) => resolve("test/support/tls", file)) as [string, string];
const missing = ["nginx", "prometheus"].filter((program) => spawnSync(program, ["-v"]).error !== undefined);
const advice = missing.length === 0 ? noOwnRedis : `skipped: install ${missing.join(" and ")}`;
const names = ["tollgate-1", "tollgate-2"];

interface Fixture {
  readonly folder: string;
  readonly database: TestDatabase;
  readonly servers: readonly ServerProcess[];
  /** The address of nginx. */
  readonly url: string;
}

/** Runs the topology of deploy/compose on loopback, with Debian's programs and the files of deploy. */
describe.skipIf(advice !== "")(`the topology of deploy/compose ${advice}`, () => {
  let fixture: Fixture;
  const closers: Closers = [];
  beforeAll(async () => {
    fixture = await startTopology(closers);
  });
  afterAll(() => closeAll(closers));

  test("every command of the tour prints the output on its page, through TLS and two servers", () => {
    const steps = runTour({
      url: fixture.url,
      passwordFile: join(fixture.folder, "admin.password"),
      certificate: cert,
    });
    expect(steps.length).toBeGreaterThan(10);
    for (const { written, printed } of steps) expect(printed).toBe(written);
  });

  test("nginx spreads gRPC, gRPC-Web, Connect and HTTP over both servers", async () => {
    const nodeOptions = { ca: readFileSync(cert) };
    const options = { baseUrl: fixture.url, nodeOptions };
    const transports = [
      createGrpcTransport(options),
      createGrpcWebTransport({ ...options, httpVersion: "1.1" }),
      createConnectTransport({ ...options, httpVersion: "1.1" }),
      createConnectTransport({ ...options, httpVersion: "2" }),
    ];
    const before = await Promise.all(fixture.servers.map(callsOf));
    for (const transport of transports) {
      for (let calls = 0; calls < 4; calls += 1) await createClient(SystemService, transport).version({});
    }
    const after = await Promise.all(fixture.servers.map(callsOf));
    for (const [index, values] of after.entries()) {
      const grown = Object.fromEntries(
        Object.entries(values).map(([series, value]) => [series, value - (before[index]?.[series] ?? 0)]),
      );
      const rpc = 'rpc="tollgate.v1.SystemService/Version"';
      expect(grown).toMatchObject({
        [`{${rpc},transport="grpc",code="OK"}`]: 2,
        [`{${rpc},transport="grpc-web",code="OK"}`]: 2,
        [`{${rpc},transport="connect",code="OK"}`]: 4,
      });
    }
  });

  test("the server sees the address of the caller, not that of nginx", async () => {
    const login = JSON.stringify({ username: "unknown", password: "x" });
    curl("--interface", "127.0.0.2", "-H", "X-Forwarded-For: 203.0.113.7", "--json", login, "/admin/token/generation");
    const addresses = () => fixture.database.database("audit_action").where({ operation: "login" }).pluck("address");
    await expect.poll(addresses).toContain("127.0.0.2");
    expect(await addresses()).not.toContain("203.0.113.7");
  });

  test("Prometheus scrapes both servers, loads the alerts, and answers every query of the dashboard", async () => {
    const port = await freePort();
    const config = readFileSync("deploy/prometheus/prometheus.yml", "utf8")
      .replace("scrape_interval: 15s", "scrape_interval: 1s")
      .replace("alerts.yml", resolve("deploy/prometheus/alerts.yml"))
      .replace(/tollgate-(\d):9464/g, (_address, number) => new URL(metricsOf(fixture.servers[number - 1])).host);
    await writeFile(join(fixture.folder, "prometheus.yml"), config);
    const prometheus = spawn("prometheus", [
      `--config.file=${fixture.folder}/prometheus.yml`,
      `--storage.tsdb.path=${fixture.folder}/tsdb`,
      `--web.listen-address=127.0.0.1:${port}`,
    ]);
    try {
      const query = async (expression: string) => {
        const url = `http://127.0.0.1:${port}/api/v1/query?query=${encodeURIComponent(expression)}`;
        const response = await fetch(url).catch(() => undefined);
        return response && ((await response.json()) as { status: string; data: { result: readonly object[] } });
      };
      const servers = async () => (await query("tollgate_build_info"))?.data.result.length;
      await expect.poll(servers, { timeout: 30_000 }).toBe(2);
      const panels: { targets?: { expr: string }[] }[] = JSON.parse(
        readFileSync("deploy/grafana/tollgate.json", "utf8"),
      ).panels;
      const expressions = panels.flatMap(({ targets = [] }) => targets.map(({ expr }) => expr));
      for (const expression of expressions) {
        const asked = expression.replaceAll("$__rate_interval", "1m").replaceAll("$instance", ".*");
        expect({ expression, ...(await query(asked)) }).toMatchObject({ expression, status: "success" });
      }
    } finally {
      await end(prometheus);
    }
  });

  test("while one server drains and ends, calls go on through the other", async () => {
    const [first] = fixture.servers;
    const statuses: string[] = [];
    const ended = first?.end();
    for (let calls = 0; calls < 30; calls += 1)
      statuses.push(curl("-o", "/dev/null", "-w", "%{http_code}", "/admin/system/check"));
    expect(await ended).toBe(0);
    expect(new Set(statuses)).toEqual(new Set(["200"]));
  });

  function curl(...parameters: readonly string[]): string {
    const path = parameters.at(-1) ?? "";
    const given = ["-s", "--cacert", cert, ...parameters.slice(0, -1), `${fixture.url}${path}`];
    return spawnSync("curl", given, { encoding: "utf8" }).stdout;
  }
});

async function startTopology(closers: Closers): Promise<Fixture> {
  const folder = await mkdtemp(join(tmpdir(), "tollgate-topology-"));
  closers.push(() => rm(folder, { recursive: true }));
  const database = await createTestDatabase();
  closers.push(() => database.drop());
  const redis = await startRedisCluster();
  closers.push(() => redis.kill());
  const values: Record<string, string> = {
    POSTGRES_PASSWORD: "unused",
    TOKEN_KEYS: "a-secret-for-tests-that-is-long-enough",
    ADMIN_PASSWORD: "first administrator",
  };
  await writeFile(join(folder, "admin.password"), values.ADMIN_PASSWORD ?? "");
  const { services } = parse(readFileSync("deploy/compose/compose.yml", "utf8"), { merge: true });
  const servers: ServerProcess[] = [];
  for (const name of names) {
    const environment = Object.entries<string>(services[name].environment).map(([setting, value]) => [
      setting,
      value.replace(/\$\{(\w+):\?[^}]*\}/g, (_all, variable: string) => values[variable] ?? ""),
    ]);
    const own = { DATABASE_URL: database.url, REDIS_URL: redis.url, METRICS_PORT: "0" };
    const server = await startProcess({ ...Object.fromEntries(environment), ...own });
    closers.push(() => (server.process.exitCode === null ? server.end() : Promise.resolve()));
    servers.push(server);
  }
  const port = await freePort();
  const nginx = await startNginx(folder, port, servers);
  closers.push(() => end(nginx));
  return { folder, database, servers, url: `https://localhost:${port}` };
}

/** Starts nginx with the file of deploy/compose. Names of hosts and files are those of this machine. */
async function startNginx(folder: string, port: number, servers: readonly ServerProcess[]): Promise<ChildProcess> {
  const config = readFileSync("deploy/compose/nginx.conf", "utf8")
    .replace("http {", "http {\n  access_log off;")
    .replace("8443", String(port))
    .replace("/etc/nginx/tls/tls.crt", cert)
    .replace("/etc/nginx/tls/tls.key", key)
    .replace(/tollgate-(\d):8080/g, (_address, number) => new URL(servers[number - 1]?.url ?? "").host);
  const file = join(folder, "nginx.conf");
  await writeFile(file, config);
  const checked = spawnSync("nginx", ["-t", "-c", file, "-g", `pid ${folder}/nginx.pid;`], { encoding: "utf8" });
  expect({ status: checked.status, output: checked.stderr }).toMatchObject({ status: 0 });
  const nginx = spawn("nginx", ["-c", file, "-e", "stderr", "-g", `pid ${folder}/nginx.pid; daemon off;`]);
  await vi.waitUntil(() => fetch(`http://localhost:${port}`).then(Boolean, () => false), 10_000);
  return nginx;
}

async function callsOf(server: ServerProcess): Promise<Record<string, number>> {
  return samplesOf(await scrape(metricsOf(server)), "tollgate_calls_total");
}

function metricsOf(server: ServerProcess | undefined): string {
  return /"metrics":"(http[^"]+)"/.exec(server?.output() ?? "")?.[1] ?? "";
}

async function end(child: ChildProcess): Promise<void> {
  const exited = once(child, "exit");
  child.kill("SIGTERM");
  await exited;
}
