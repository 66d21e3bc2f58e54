import { spawnSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { parse } from "yaml";
import { readConfig, settings } from "../../src/config.ts";

interface Service {
  readonly environment?: Readonly<Record<string, string>>;
  readonly volumes?: readonly string[];
  readonly stop_grace_period?: string;
}

const folder = "deploy/compose";
const file = join(folder, "compose.yml");
const { services, volumes } = parse(readFileSync(file, "utf8"), { merge: true }) as {
  readonly services: Readonly<Record<string, Service>>;
  readonly volumes: Readonly<Record<string, unknown>>;
};
const secrets = {
  POSTGRES_PASSWORD: "p",
  TOKEN_KEYS: "a-secret-for-tests-that-is-long-enough",
  ADMIN_PASSWORD: "first administrator",
};
const isMissing = spawnSync("docker-compose", ["version"]).error !== undefined;
const noCompose = isMissing ? "skipped: install docker-compose (Debian: apt-get install docker-compose)" : "";

test.skipIf(isMissing)(`docker-compose accepts the file, and asks for a secret that is missing ${noCompose}`, () => {
  expect(configure(secrets)).toMatchObject({ status: 0 });
  const { status, stderr } = configure({ ...secrets, TOKEN_KEYS: "" });
  expect({ status, stderr }).toMatchObject({ status: 1, stderr: expect.stringContaining("set it in .env") });
});

test("example.env names every variable of the file and no other", () => {
  const used = [...readFileSync(file, "utf8").matchAll(/\$\{(\w+)/g)].map(([, name]) => name);
  const named = [...readFileSync(join(folder, "example.env"), "utf8").matchAll(/^(\w+)=/gm)].map(([, name]) => name);
  expect(named.toSorted()).toEqual([...new Set(used)].toSorted());
});

test("every file that is mounted exists, and every volume is declared", () => {
  const sources = Object.values(services).flatMap(({ volumes: mounted = [] }) =>
    mounted.map((volume) => volume.replace(/:ro$/, "").replace(/:[^:]*$/, "")),
  );
  const paths = sources.filter((source) => source.startsWith("."));
  expect(paths.length).toBeGreaterThan(5);
  expect(paths.filter((path) => !existsSync(join(folder, path)))).toEqual([]);
  expect(sources.filter((source) => /^\w+$/.test(source)).toSorted()).toEqual(Object.keys(volumes).toSorted());
});

test("the hosts that nginx, Prometheus and Grafana name are services", () => {
  const files = [join(folder, "nginx.conf"), "deploy/prometheus/prometheus.yml", "deploy/grafana/datasource.yml"];
  const text = files.map((path) => readFileSync(path, "utf8")).join("\n");
  const hosts = new Set([...text.matchAll(/\b([a-z]+(?:-\d)?):(?:8080|9464|9090)\b/g)].map(([, host]) => host));
  expect([...hosts].toSorted()).toEqual(["prometheus", "tollgate-1", "tollgate-2"]);
  expect([...hosts].filter((host) => services[host ?? ""] === undefined)).toEqual([]);
});

test.each(["tollgate-1", "tollgate-2"])("the settings of %s exist and are accepted", (name) => {
  const { environment = {}, stop_grace_period: grace = "" } = services[name] as Service;
  expect(Object.keys(environment).filter((setting) => !(setting in settings))).toEqual([]);
  const given = Object.entries(environment).map(([setting, value]) => [
    setting,
    value.replace(/\$\{(\w+):\?[^}]*\}/g, (_all, variable: keyof typeof secrets) => secrets[variable]),
  ]);
  const config = readConfig(Object.fromEntries(given));
  expect(config.SERVER_NAME).toBe(name);
  // The server needs DRAIN_MS and 10 s more.
  expect(Number.parseInt(grace, 10) * 1000).toBeGreaterThan(config.DRAIN_MS + 10_000);
});

function configure(values: Record<string, string>) {
  const env = { PATH: process.env.PATH ?? "", ...values };
  return spawnSync("docker-compose", ["-f", file, "config", "--quiet"], { env, encoding: "utf8" });
}
