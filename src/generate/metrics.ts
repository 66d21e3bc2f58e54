#!/usr/bin/env -S npx tsx
import { writeFileSync } from "node:fs";
import { metricDefinitions } from "../metrics/definitions.ts";

const introduction = `# Metrics

\`npm run gen\` generates this page from \`src/metrics\`. [operations.md](operations.md#metrics) says how to read them.

With \`WORKERS\`, one value stands for all worker processes: their sum, their maximum or their minimum.

| Metric | Type | Labels | Workers | Meaning |
| --- | --- | --- | --- | --- |
`;

/** Returns the table of metrics as a Markdown page. */
function metricsPage(): string {
  const rows = metricDefinitions.map(
    ({ name, type, labels, workers, help }) =>
      `| \`${name}\` | ${type} | ${labels.map((label) => `\`${label}\``).join(" ")} | ${workers} | ${help} |\n`,
  );
  return introduction + rows.join("");
}

writeFileSync("docs/metrics.md", metricsPage());
