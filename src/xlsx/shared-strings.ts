import type { ReadLimits } from "./limits.ts";
import { limitOf } from "./limits.ts";
import type { Package } from "./package.ts";
import { type ElementRule, readXml, unescapeText } from "./xml.ts";

/** Returns the rules for the elements of a string (`si`, `is`): plain text or runs. Phonetic readings are left out. */
export function textRules(onText: (text: string) => void): Readonly<Record<string, ElementRule>> {
  const t: ElementRule = { close: (text) => onText(unescapeText(text)) };
  return { t, r: { children: { t } } };
}

/**
 * Reads the table of texts that cells refer to by index.
 * @throws WorkbookError when the XML is invalid or exceeds the limits
 */
export async function readSharedStrings(
  from: Package,
  part: string,
  { limits, count }: { limits: ReadLimits; count: (more: number) => void },
): Promise<string[]> {
  const strings: string[] = [];
  const countTexts = limitOf(limits.cells, "texts");
  let parts: string[] = [];
  const si: ElementRule = {
    open() {
      countTexts(1);
      parts = [];
    },
    close: () => strings.push(parts.join("")),
    children: textRules((text) => parts.push(text)),
  };
  await readXml(from.read(part), { part, rule: { children: { sst: { children: { si } } } }, count });
  return strings;
}
