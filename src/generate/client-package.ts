import { cpSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";

/**
 * Copies the generated messages and services into the client package. The rules of fields refer to a message of
 * @bufbuild/protovalidate, which a client does not need otherwise: the package has a copy of that one file.
 */
const folder = "client/gen";
const validate = "buf/validate/validate_pb";
const validateImport = `@bufbuild/protovalidate/gen/${validate}.js`;

cpSync("LICENSE", "client/LICENSE");
rmSync(folder, { recursive: true, force: true });
for (const name of ["gateway", "google", "tollgate"])
  cpSync(join("gen", name), join(folder, name), { recursive: true });
const source = fileURLToPath(import.meta.resolve(validateImport)).replace(/\.js$/, "");
for (const extension of [".js", ".d.ts"]) cpSync(source + extension, join(folder, validate + extension));
for (const name of readdirSync(folder, { recursive: true, encoding: "utf8" })) {
  if (!/\.(js|d\.ts)$/.test(name)) continue;
  const path = join(folder, name);
  const text = readFileSync(path, "utf8");
  const own = relative(dirname(name), `${validate}.js`);
  writeFileSync(path, text.replaceAll(validateImport, own.startsWith(".") ? own : `./${own}`));
}
