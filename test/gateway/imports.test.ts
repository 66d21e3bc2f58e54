import { execFileSync } from "node:child_process";
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { expect, test } from "vitest";

/** The gateway, and what it and the gRPC server stand on. */
const folders = ["src/gateway", "src/call"];
const files = folders.flatMap((folder) =>
  readdirSync(folder, { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(".ts"))
    .map((name) => join(folder, name)),
);
const imports = new Map(files.map((file) => [file, importsOf(file)]));

test("the gateway imports its own files, src/call, its own generated code, protobuf, Connect and Node alone", () => {
  const allowed = /^(node:|@bufbuild\/|@connectrpc\/connect$|#gen\/(gateway|google)\/)/;
  const foreign = [...imports].flatMap(([file, specifiers]) =>
    specifiers
      .filter((one) => (one.startsWith(".") ? !files.includes(targetOf(file, one)) : !allowed.test(one)))
      .map((one) => `${file}: ${one}`),
  );
  expect(foreign).toEqual([]);
});

test("no file of the gateway imports itself through others, types included", () => {
  const circles = files.filter((file) => reachable(file).has(file));
  expect(circles).toEqual([]);
});

test("the gateway and its document load without the rest of the repository", () => {
  const alone = mkdtempSync(join(tmpdir(), "gateway-alone-"));
  try {
    for (const folder of folders) cpSync(folder, join(alone, folder), { recursive: true });
    for (const name of ["gateway", "google"]) cpSync(`gen/${name}`, join(alone, "gen", name), { recursive: true });
    symlinkSync(resolve("node_modules"), join(alone, "node_modules"));
    writeFileSync(join(alone, "package.json"), '{"type":"module","imports":{"#gen/*":"./gen/*"}}');
    const script = `
      import { createGateway } from "./src/gateway/gateway.ts";
      import { createDocument } from "./src/gateway/openapi/document.ts";
      const gateway = createGateway({ services: [], maxBodyBytes: () => 0, bodyTimeoutMs: 1000, describeError: () => ({}) });
      console.log(typeof gateway, typeof createDocument);
    `;
    const options = { cwd: alone, encoding: "utf8" } as const;
    const output = execFileSync(
      process.execPath,
      ["--import", "tsx", "--input-type=module", "--eval", script],
      options,
    );
    expect(output.trim()).toBe("function function");
  } finally {
    rmSync(alone, { recursive: true });
  }
});

function importsOf(file: string): string[] {
  return [...readFileSync(file, "utf8").matchAll(/\b(?:from|import) ?\(?"([^"]+)"/g)].map(
    ([, specifier = ""]) => specifier,
  );
}

function targetOf(file: string, specifier: string): string {
  return join(dirname(file), specifier);
}

/** The files that a file imports, directly or through others. */
function reachable(start: string): Set<string> {
  const found = new Set<string>();
  const waiting = [start];
  for (let file = waiting.pop(); file !== undefined; file = waiting.pop()) {
    for (const specifier of imports.get(file) ?? []) {
      const target = specifier.startsWith(".") ? targetOf(file, specifier) : undefined;
      if (target === undefined || found.has(target)) continue;
      found.add(target);
      waiting.push(target);
    }
  }
  return found;
}
