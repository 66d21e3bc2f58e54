import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";

export interface TourStep {
  /** The command, and the output that the page prints below it. */
  readonly written: string;
  /** The command, and its output. */
  readonly printed: string;
}

const mark = "=== end of step ===";

/** Runs the commands of the tour: those of the README, then those of docs/tour.md, which continue them. */
export function runTour(server: {
  readonly url: string;
  readonly passwordFile: string;
  /** PEM. The certificate of a server with TLS. */
  readonly certificate?: string;
}): TourStep[] {
  const { url, passwordFile, certificate } = server;
  const pages = ["README.md", "docs/tour.md"].map((page) => readFileSync(page, "utf8")).join("\n");
  const steps = [...pages.matchAll(/```console\n([\s\S]*?)```/g)].flatMap(([, block = ""]) =>
    block
      .split(/^\$ /m)
      .slice(1)
      .map((step) => ({ command: step.slice(0, step.indexOf("\n")), prints: step.slice(step.indexOf("\n") + 1) })),
  );
  let script = steps
    .map(({ command }) => `${command}\nprintf '\\n${mark}\\n'`)
    .join("\n")
    .replace(".tollgate/admin.password", passwordFile)
    .replaceAll("http://127.0.0.1:8080", url);
  if (certificate !== undefined) script = script.replaceAll("--http2-prior-knowledge", `--cacert ${certificate}`);
  const env = { ...process.env, ...(certificate !== undefined && { CURL_CA_BUNDLE: certificate }) };
  const { stdout } = spawnSync("bash", ["-c", script], { encoding: "utf8", env });
  const outputs = stdout.split(`${mark}\n`).map((output) => output.trim());
  return steps.map(({ command, prints }, index) => ({
    written: `$ ${command}\n${prints.trim()}`,
    printed: `$ ${command}\n${outputs[index]}`,
  }));
}
