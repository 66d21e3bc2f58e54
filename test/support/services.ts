import { readdirSync } from "node:fs";
import type { DescService } from "@bufbuild/protobuf";

/** Returns the service of every .proto file, so that a test notices one that its table misses. */
export async function everyService(): Promise<DescService[]> {
  const folder = new URL("../../gen/tollgate/v1/", import.meta.url);
  const files = readdirSync(folder).filter((name) => name.endsWith("_pb.js"));
  const modules = await Promise.all(files.map((name) => import(new URL(name, folder).href) as Promise<object>));
  return modules.flatMap((module) => Object.values(module).filter(isService));
}

function isService(value: unknown): value is DescService {
  return typeof value === "object" && value !== null && "kind" in value && value.kind === "service";
}
