import { execFileSync } from "node:child_process";
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { expect, test } from "vitest";

/** The parts that do not depend on Tollgate, with the packages that each may import and its main exports. */
const parts = [
  {
    folders: ["gateway", "call"],
    packages: /^(node:|@bufbuild\/|@connectrpc\/connect$|#gen\/(gateway|google)\/)/,
    exported: { "gateway/gateway.ts": "createGateway", "gateway/openapi/document.ts": "createDocument" },
  },
  {
    folders: ["grpc", "call"],
    packages: /^(node:|@bufbuild\/|@connectrpc\/connect(\/protocol(-grpc)?)?$|#gen\/google\/)/,
    exported: { "grpc/server.ts": "createGrpcServer" },
  },
  {
    folders: ["xlsx"],
    packages: /^(node:|exceljs$|saxes$|yauzl$)/,
    exported: { "xlsx/read-workbook.ts": "readWorkbook", "xlsx/workbook.ts": "streamWorkbook" },
  },
];

test.each(parts)("$folders import only their own files and the permitted packages", ({ folders, packages }) => {
  const files = filesOf(folders);
  const foreign = files.flatMap((file) =>
    importsOf(file)
      .filter((path) => (path.startsWith(".") ? !files.includes(join(dirname(file), path)) : !packages.test(path)))
      .map((path) => `${file}: ${path}`),
  );
  expect(foreign).toEqual([]);
});

test("each part loads without the rest of the repository", () => {
  const alone = mkdtempSync(join(tmpdir(), "standalone-"));
  try {
    const lines = parts.flatMap(({ folders, exported }) => {
      const root = join(alone, folders.join("-"));
      for (const folder of folders) cpSync(`src/${folder}`, join(root, "src", folder), { recursive: true });
      for (const name of ["gateway", "google"]) cpSync(`gen/${name}`, join(root, "gen", name), { recursive: true });
      symlinkSync(resolve("node_modules"), join(root, "node_modules"));
      writeFileSync(join(root, "package.json"), '{"type":"module","imports":{"#gen/*":"./gen/*"}}');
      return Object.entries(exported).map(
        ([file, name]) => `console.log(typeof (await import("${root}/src/${file}")).${name});`,
      );
    });
    const output = execFileSync(
      process.execPath,
      ["--import", "tsx", "--input-type=module", "--eval", lines.join("\n")],
      { encoding: "utf8" },
    );
    expect(output.trim().split("\n")).toEqual(lines.map(() => "function"));
  } finally {
    rmSync(alone, { recursive: true });
  }
});

function filesOf(folders: readonly string[]): string[] {
  return folders.flatMap((folder) =>
    readdirSync(`src/${folder}`, { recursive: true, encoding: "utf8" })
      .filter((name) => name.endsWith(".ts"))
      .map((name) => join("src", folder, name)),
  );
}

function importsOf(file: string): string[] {
  return [...readFileSync(file, "utf8").matchAll(/\b(?:from |import |import\()"([^"]+)"/g)].map(
    ([, specifier = ""]) => specifier,
  );
}
