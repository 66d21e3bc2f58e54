import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { expect, test } from "vitest";
import { parse } from "yaml";
import { readConfig, settings } from "../../src/config.ts";
import { metricDefinitions } from "../../src/metrics/definitions.ts";

interface Manifest {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly namespace?: string };
  /** Has the shape of its kind, which tsc checks below. */
  readonly spec: ReturnType<typeof parse>;
}

interface Kustomization {
  readonly namespace?: string;
  readonly resources: readonly string[];
  readonly images?: readonly { readonly name: string; readonly newName: string; readonly newTag: string }[];
  readonly configMapGenerator: readonly {
    readonly name: string;
    readonly envs?: readonly string[];
    readonly literals?: readonly string[];
  }[];
}

const folder = "deploy/kubernetes";
const overlays = ["small", "large"].map((name) => join("overlays", name));
const folders = ["base", ...overlays];
const read = (path: string) => parse(readFileSync(join(folder, path), "utf8"));
const kustomizationOf = (name: string): Kustomization => read(join(name, "kustomization.yaml"));
const filesOf = (name: string) =>
  readdirSync(join(folder, name)).filter((file) => file.endsWith(".yaml") && file !== "kustomization.yaml");
const manifests = folders.flatMap((name) => filesOf(name).map((file) => read(join(name, file)) as Manifest));
const ofKind = (kind: string) => manifests.filter((manifest) => manifest.kind === kind);
const { spec: deployment } = ofKind("Deployment")[0] as Manifest;
const pod = deployment.template.spec;
const [container] = pod.containers;
const secrets = {
  DATABASE_URL: "postgres://tollgate:p@postgres/tollgate",
  TOKEN_KEYS: "a-secret-for-tests-that-is-long-enough",
  ADMIN_PASSWORD: "first administrator",
};

test("the manifests have the fields of Kubernetes' schemas and no others", () => {
  expect(manifests.length).toBeGreaterThan(5);
  expect(compile(manifests)).toEqual({ status: 0, output: "" });
  const [first] = ofKind("Deployment") as [Manifest];
  const misspelled = { ...first, spec: { ...first.spec, replica: 2 } };
  expect(compile([misspelled]).output).toMatch(/"replica"' does not exist/);
}, 60_000);

test("each kustomization names the manifests of its folder", () => {
  for (const name of folders) {
    const named = kustomizationOf(name).resources.filter((resource) => !resource.startsWith(".."));
    expect(named.toSorted()).toEqual(filesOf(name).toSorted());
  }
  for (const name of overlays) {
    const { resources, images = [], configMapGenerator } = kustomizationOf(name);
    expect(resources).toContain("../../base");
    expect(images.map((image) => image.name)).toEqual([container.image]);
    expect(configMapGenerator.map((map) => map.name)).toEqual(["tollgate"]);
  }
});

test.each(overlays)(
  "%s builds manifests of one namespace, with its image and its settings",
  (name) => {
    const built = buildManifests(name);
    expect(compile(built)).toEqual({ status: 0, output: "" });
    const names = built.map(({ kind, metadata }) => `${kind}/${metadata.name}`);
    expect(new Set(names).size).toBe(names.length);
    expect(new Set(built.map(({ metadata }) => metadata.namespace))).toEqual(new Set(["tollgate"]));
    const [{ spec }] = built.filter(({ kind }) => kind === "Deployment") as [Manifest];
    const [{ image, envFrom }] = spec.template.spec.containers;
    expect(image).toMatch(/^registry\.example\.com\/tollgate:\d+\.\d+\.\d+$/);
    expect(names).toContain(`ConfigMap/${envFrom[0].configMapRef.name}`);
    expect(names.includes("HorizontalPodAutoscaler/tollgate")).toBe(name.endsWith("large"));
  },
  60_000,
);

test.each(folders)("the settings of %s exist and are accepted", (name) => {
  const environment = environmentOf(name);
  expect(Object.keys(environment).filter((setting) => !(setting in settings))).toEqual([]);
  const config = readConfig({ ...environment, ...secrets });
  const { terminationGracePeriodSeconds: seconds } = pod;
  expect(seconds * 1000).toBeGreaterThan(config.DRAIN_DELAY_MS + config.DRAIN_MS + 10_000);
  // Kubernetes notices the drain before the listener closes.
  const { periodSeconds, failureThreshold } = container.readinessProbe;
  expect(config.DRAIN_DELAY_MS).toBeGreaterThan(periodSeconds * failureThreshold * 1000);
  expect(container.ports.map((port: { containerPort: number }) => port.containerPort)).toEqual([
    config.PORT,
    config.METRICS_PORT,
  ]);
  const [policy] = ofKind("NetworkPolicy") as [Manifest];
  const allowed = policy.spec.ingress.flatMap(({ ports }: { ports: { port: number }[] }) =>
    ports.map(({ port }) => port),
  );
  expect(allowed).toEqual([config.PORT, config.METRICS_PORT]);
  expect(deployment.template.metadata.annotations["prometheus.io/port"]).toBe(String(config.METRICS_PORT));
});

test("probes ask the paths that the server has", () => {
  const probes = [container.startupProbe, container.livenessProbe, container.readinessProbe];
  expect(probes.map(({ httpGet }) => httpGet)).toEqual([
    { path: "/livez", port: "http" },
    { path: "/livez", port: "http" },
    { path: "/readyz", port: "http" },
  ]);
  expect(readFileSync("src/transport/probes.ts", "utf8")).toMatch(/"\/livez"[\s\S]*"\/readyz"/);
});

test("the policy lets the server reach the ports of what its settings may name", () => {
  const [policy] = ofKind("NetworkPolicy") as [Manifest];
  const [{ ports }] = policy.spec.egress;
  expect(ports.map(({ protocol, port }: { protocol: string; port: number }) => `${protocol} ${port}`)).toEqual([
    "UDP 53",
    "TCP 53",
    // DATABASE_URL and REDIS_URL
    "TCP 5432",
    "TCP 6379",
    // WEBHOOK_URL and AUDIT_SINK_URL
    "TCP 443",
    // OTEL_EXPORTER_OTLP_ENDPOINT
    "TCP 4318",
  ]);
});

test("services, budget and policy select the pods of the deployment", () => {
  const { labels } = deployment.template.metadata;
  const selectors = [
    deployment.selector.matchLabels,
    ...ofKind("Service").map(({ spec }) => spec.selector),
    ...ofKind("PodDisruptionBudget").map(({ spec }) => spec.selector.matchLabels),
    ...ofKind("NetworkPolicy").map(({ spec }) => spec.podSelector.matchLabels),
    ...pod.topologySpreadConstraints.map(
      ({ labelSelector }: { labelSelector: { matchLabels: object } }) => labelSelector.matchLabels,
    ),
  ];
  expect(selectors).toHaveLength(6);
  for (const selector of selectors) expect(selector).toEqual(labels);
});

test("the autoscaler scales the deployment by a metric that /metrics has", () => {
  const [{ spec }] = ofKind("HorizontalPodAutoscaler") as [Manifest];
  expect(spec.scaleTargetRef).toEqual({
    apiVersion: "apps/v1",
    kind: "Deployment",
    name: ofKind("Deployment")[0]?.metadata.name,
  });
  const { rules } = parse(readFileSync("deploy/prometheus/adapter.yml", "utf8"));
  expect(rules.map((rule: { name: { as: string } }) => rule.name.as)).toEqual([spec.metrics[0].pods.metric.name]);
  const [rule] = rules;
  for (const text of [rule.seriesQuery, rule.metricsQuery]) {
    const [name = ""] = /tollgate_\w+/.exec(text) ?? [];
    expect(metricDefinitions.map((definition) => definition.name)).toContain(name);
  }
});

/**
 * Returns what `kubectl kustomize` makes of a folder, without the hashes that it adds to the names of config maps.
 * @throws Error for a field of kustomization.yaml that this function does not know
 */
function buildManifests(name: string): Manifest[] {
  const { resources, namespace, images = [], configMapGenerator, ...rest } = kustomizationOf(name);
  const unknown = Object.keys(rest).filter((field) => field !== "apiVersion" && field !== "kind");
  if (unknown.length > 0) throw new Error(`unknown fields: ${unknown.join(", ")}`);
  const generated = configMapGenerator.map((map) => map.name);
  const listed = resources.flatMap((resource) =>
    resource.endsWith(".yaml") ? [read(join(name, resource)) as Manifest] : buildManifests(join(name, resource)),
  );
  const kept = listed.filter(({ kind, metadata }) => kind !== "ConfigMap" || !generated.includes(metadata.name));
  const maps = generated.map((map) => ({
    apiVersion: "v1",
    kind: "ConfigMap",
    metadata: { name: map },
    data: environmentOf(name),
  }));
  return [...kept, ...maps].map((manifest) => {
    const built = structuredClone(manifest) as Manifest & { spec?: Manifest["spec"] };
    for (const one of built.spec?.template?.spec.containers ?? []) {
      const image = images.find((wanted) => wanted.name === one.image);
      if (image !== undefined) one.image = `${image.newName}:${image.newTag}`;
    }
    return namespace === undefined ? built : { ...built, metadata: { ...built.metadata, namespace } };
  });
}

/** Returns the environment that kustomize makes: the base's, and an overlay's over it. */
function environmentOf(name: string): Record<string, string> {
  const { configMapGenerator } = kustomizationOf(name);
  const [{ envs = [], literals = [] }] = configMapGenerator as [Kustomization["configMapGenerator"][number]];
  const lines = [...envs.flatMap((file) => readFileSync(join(folder, name, file), "utf8").split("\n")), ...literals];
  const own = lines
    .filter((line) => line !== "" && !line.startsWith("#"))
    .map((line) => [line.slice(0, line.indexOf("=")), line.slice(line.indexOf("=") + 1)]);
  return { ...(name === "base" ? {} : environmentOf("base")), ...Object.fromEntries(own) };
}

/** Compiles the manifests as values of the types of Kubernetes' schemas, which permit no other field. */
function compile(values: readonly Manifest[]) {
  mkdirSync("node_modules/.cache", { recursive: true });
  const directory = mkdtempSync("node_modules/.cache/manifests-");
  try {
    const lines = values.map(
      (manifest, index) =>
        `import type { I${manifest.kind} as I${index} } from "kubernetes-models/${manifest.apiVersion}";\nexport const value${index}: I${index} = ${JSON.stringify(manifest)};\n`,
    );
    const file = join(directory, "manifests.mts");
    writeFileSync(file, lines.join(""));
    const options = [
      "--ignoreConfig",
      "--noEmit",
      "--strict",
      "--skipLibCheck",
      "--module",
      "nodenext",
      "--types",
      "node",
    ];
    const { status, stdout } = spawnSync(resolve("node_modules/.bin/tsc"), [...options, file], { encoding: "utf8" });
    return { status, output: stdout };
  } finally {
    rmSync(directory, { recursive: true });
  }
}
