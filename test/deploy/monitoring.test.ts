import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { parse } from "yaml";
import { metricDefinitions } from "../../src/metrics/definitions.ts";

interface Alert {
  readonly alert: string;
  readonly expr: string;
}

const readYaml = (path: string) => parse(readFileSync(path, "utf8"));
const alerts: readonly Alert[] = readYaml("deploy/prometheus/alerts.yml").groups[0].rules;
const dashboard = JSON.parse(readFileSync("deploy/grafana/tollgate.json", "utf8")) as {
  readonly panels: readonly { readonly title: string; readonly targets?: readonly { readonly expr: string }[] }[];
};
const queries = dashboard.panels.flatMap(({ targets = [] }) => targets.map(({ expr }) => expr));
const isMissing = spawnSync("promtool", ["--version"]).error !== undefined;
const noPromtool = isMissing ? "skipped: install promtool (Debian: apt-get install prometheus)" : "";

test("alerts and dashboard name only metrics and labels that /metrics has", () => {
  const expressions = [...alerts.map(({ expr }) => expr), ...queries];
  expect(expressions.length).toBeGreaterThan(50);
  expect(expressions.flatMap(unknownNamesOf)).toEqual([]);
});

test.each([
  ["sum(rate(tollgate_call_total[5m]))", ["tollgate_call_total"]],
  ["tollgate_calls_total_bucket", ["tollgate_calls_total_bucket"]],
  ['tollgate_fail_open{state="on"}', ["state"]],
  ["sum by (user) (tollgate_leases)", ["user"]],
])("the check finds wrong names in %s", (expression, found) => {
  expect(unknownNamesOf(expression)).toEqual(found);
});

test("every metric is on the dashboard or in an alert, or describes the build", () => {
  const text = [...alerts.map(({ expr }) => expr), ...queries].join("\n");
  const unused = metricDefinitions.map(({ name }) => name).filter((name) => !text.includes(name));
  expect(unused).toEqual([
    "tollgate_build_info",
    "tollgate_upload_bytes_total",
    "tollgate_conversions_waiting",
    "tollgate_conversion_held_bytes",
    "tollgate_drift_compared_meters_total",
    "process_heap_bytes",
    "process_open_fds",
    "process_start_time_seconds",
  ]);
});

test("docs/operations.md says what to do about each alert, and alerts.test.yml tests each", () => {
  const page = readFileSync("docs/operations.md", "utf8");
  const named = [...page.matchAll(/^\| `(Tollgate\w+)`/gm)].map(([, name]) => name);
  expect(named).toEqual(alerts.map(({ alert }) => alert));
  const tests: { name: string }[] = readYaml("deploy/prometheus/alerts.test.yml").tests;
  expect(tests.map(({ name }) => name)).toEqual([...alerts.map(({ alert }) => alert), "a healthy server"]);
});

test.skipIf(isMissing).each([
  ["check rules", ["check", "rules", "deploy/prometheus/alerts.yml"]],
  ["test rules", ["test", "rules", "deploy/prometheus/alerts.test.yml"]],
])(`promtool %s accepts the alerts ${noPromtool}`, (_name, parameters) => {
  const { status, stdout, stderr } = spawnSync("promtool", parameters, { encoding: "utf8" });
  expect({ status, output: stdout + stderr }).toMatchObject({ status: 0 });
});

test.skipIf(isMissing)(`promtool parses every query of the dashboard ${noPromtool}`, () => {
  const rules = queries.map((expr, index) => ({
    record: `query:${index}`,
    expr: expr.replaceAll("$__rate_interval", "1m").replaceAll("$instance", ".*"),
  }));
  expect(checkRules(rules)).toMatchObject({ status: 0 });
  expect(checkRules([{ record: "query:0", expr: "sum by (rate(" }])).toMatchObject({ status: 1 });
});

/** Returns the names of series and labels in a query that no metric has. */
function unknownNamesOf(expression: string): string[] {
  const used = [...expression.matchAll(/\b(?:(?:tollgate|process)_[a-z_]+|up)\b/g)].map(([name]) => name);
  const found = used.filter((name) => !series.has(name));
  const labels = new Set(["le", "instance", "job", ...used.flatMap((name) => series.get(name) ?? [])]);
  const matchers = [...expression.matchAll(/([a-z_]+)(?:=~|!~|!=|=)"/g)].map(([, label = ""]) => label);
  const groups = [...expression.matchAll(/\b(?:by|on) \(([^)]*)\)/g)].flatMap(([, list = ""]) => list.split(/,\s*/));
  return [...found, ...[...matchers, ...groups].filter((label) => found.length === 0 && !labels.has(label))];
}

/** The labels of each series that /metrics has: test/e2e/metrics.test.ts compares it with the definitions. */
const series = new Map<string, readonly string[]>([
  ["up", []],
  ...metricDefinitions.flatMap(({ name, type, labels }) => {
    const names = type === "histogram" ? ["_bucket", "_sum", "_count"].map((end) => `${name}${end}`) : [name];
    return names.map((one): [string, readonly string[]] => [one, labels]);
  }),
]);

function checkRules(rules: readonly object[]) {
  const folder = mkdtempSync(join(tmpdir(), "tollgate-rules-"));
  try {
    const file = join(folder, "rules.yml");
    // JSON is YAML.
    writeFileSync(file, JSON.stringify({ groups: [{ name: "dashboard", rules }] }));
    const { status, stdout, stderr } = spawnSync("promtool", ["check", "rules", file], { encoding: "utf8" });
    return { status, output: stdout + stderr };
  } finally {
    rmSync(folder, { recursive: true });
  }
}
