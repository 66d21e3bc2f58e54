import { decodePart, type Package } from "./package.ts";
import { attributeOf, readXml } from "./xml.ts";

export interface Relationship {
  /** The last segment of the type's URI, "worksheet". It is the same in transitional and strict files. */
  readonly type: string;
  /** The name of the target part. */
  readonly target: string;
}

/**
 * Reads the relationships of a part, by id. External targets are left out.
 * @param source the part, or "/" for the document itself
 * @throws WorkbookError when the XML is invalid
 */
export async function readRelationships(
  from: Package,
  source: string,
  count: (more: number) => void,
): Promise<Map<string, Relationship>> {
  const found = new Map<string, Relationship>();
  const split = source.lastIndexOf("/") + 1;
  const part = `${source.slice(0, split)}_rels/${source.slice(split)}.rels`;
  if (!from.has(part)) return found;
  const rule = {
    children: {
      Relationships: {
        children: {
          Relationship: {
            open(element: Parameters<typeof attributeOf>[0]) {
              const read = (name: string) => attributeOf(element, name) ?? "";
              if (read("TargetMode") === "External") return;
              const target = resolveTarget(read("Target"), source);
              if (target === undefined) return;
              found.set(read("Id"), { type: read("Type").split("/").at(-1) ?? "", target });
            },
          },
        },
      },
    },
  };
  await readXml(from.read(part), { part, rule, count });
  return found;
}

/** Resolves a target, which is a URI reference relative to its source part (ECMA-376 part 2, 8.3). */
function resolveTarget(target: string, source: string): string | undefined {
  // With an http base, the URL class resolves dots and backslashes.
  const base = new URL("http://package");
  base.pathname = source;
  return URL.canParse(target, base.href) ? decodePart(new URL(target, base).pathname) : undefined;
}
