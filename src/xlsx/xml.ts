import { SaxesParser, type SaxesTagNS } from "saxes";
import { WorkbookError } from "./limits.ts";

/** The callbacks of one element. Elements without a rule are skipped, with everything inside them. */
export interface ElementRule {
  readonly open?: (element: SaxesTagNS) => void;
  /** @param text the element's own text, without that of its child elements */
  readonly close?: (text: string) => void;
  readonly children?: Readonly<Record<string, ElementRule>>;
}

const officeRelationships = "http://schemas.openxmlformats.org/officeDocument/2006/relationships";
const relationshipNamespaces = new Set([
  officeRelationships,
  "http://purl.oclc.org/ooxml/officeDocument/relationships",
]);
/** Transitional, strict, and none: some programs leave the namespace out. */
const elementNamespaces = new Set([
  "http://schemas.openxmlformats.org/spreadsheetml/2006/main",
  "http://purl.oclc.org/ooxml/spreadsheetml/main",
  "http://schemas.openxmlformats.org/package/2006/relationships",
  "",
]);
const compatibilityNamespace = "http://schemas.openxmlformats.org/markup-compatibility/2006";
const encodings = /^(utf-?8|utf-?16(le|be)?|us-ascii)$/i;
/** The rules of a workbook reach a depth of 6. */
const maxDepth = 256;

/**
 * Parses an XML document as a stream and calls the rules of its elements, by path and namespace.
 * @param rule the rule above the root element
 * @param count is called for every element
 * @throws WorkbookError for XML that is not well-formed or has a DTD
 */
export async function readXml(
  text: AsyncIterable<string>,
  { part, rule, count }: { part: string; rule: ElementRule; count: (more: number) => void },
): Promise<void> {
  const parser = new SaxesParser({ xmlns: true, additionalNamespaces: { r: officeRelationships } });
  const rules: (ElementRule | undefined)[] = [rule];
  const texts: string[] = [""];
  const fail = (reason: string) => new WorkbookError(`the part ${part} ${reason}`);

  parser.on("xmldecl", ({ encoding = "utf-8" }) => {
    if (!encodings.test(encoding)) throw fail("is neither in UTF-8 nor in UTF-16");
  });
  parser.on("doctype", () => {
    throw fail("has a DTD, which a workbook must not have");
  });
  parser.on("opentag", (element) => {
    count(1);
    if (rules.length > maxDepth) throw fail("is nested too deeply");
    const found = ruleOf(rules.at(-1), element);
    rules.push(found.rule);
    texts.push("");
    if (!found.isTransparent) found.rule?.open?.(element);
  });
  const addText = (more: string) => {
    if (rules.at(-1)?.close !== undefined) texts[texts.length - 1] += more;
  };
  parser.on("text", addText);
  parser.on("cdata", addText);
  parser.on("closetag", (element) => {
    const own = texts.pop() ?? "";
    const closed = rules.pop();
    if (element.uri !== compatibilityNamespace) closed?.close?.(own);
  });

  for await (const chunk of text) feed(() => parser.write(chunk));
  feed(() => parser.close());

  function feed(write: () => unknown): void {
    try {
      write();
    } catch (error) {
      // saxes throws plain errors; every other error comes from the rules.
      if (error instanceof Error && error.constructor === Error) throw fail("is not well-formed XML");
      throw error;
    }
  }
}

/** Finds the rule of an element. In alternatives for other versions, only the fallback applies (ECMA-376 part 3). */
function ruleOf(parent: ElementRule | undefined, { uri, local }: SaxesTagNS) {
  if (uri === compatibilityNamespace) {
    const isTransparent = local === "AlternateContent" || local === "Fallback";
    return { rule: isTransparent ? parent : undefined, isTransparent };
  }
  const children = elementNamespaces.has(uri) ? parent?.children : undefined;
  const rule = children !== undefined && Object.hasOwn(children, local) ? children[local] : undefined;
  return { rule, isTransparent: false };
}

/** Returns the value of an attribute without a namespace. */
export function attributeOf({ attributes }: SaxesTagNS, name: string): string | undefined {
  return attributes[name]?.value;
}

/** Returns the value of the attribute `r:id`. */
export function relationshipIdOf({ attributes }: SaxesTagNS): string | undefined {
  return Object.values(attributes).find(({ local, uri }) => local === "id" && relationshipNamespaces.has(uri))?.value;
}

/** Parses an xsd:boolean. Returns undefined for any other text. */
export function parseBoolean(text: string): boolean | undefined {
  const trimmed = text.trim();
  if (trimmed === "1" || trimmed === "true") return true;
  return trimmed === "0" || trimmed === "false" ? false : undefined;
}

/** Decodes the escapes of ST_Xstring (ECMA-376 part 1, 22.9.2.19): `_x000D_` is the character with that code. */
export function unescapeText(text: string): string {
  if (!text.includes("_x")) return text;
  return text.replaceAll(/_x([0-9a-f]{4})_/gi, (_all, code: string) => String.fromCharCode(Number.parseInt(code, 16)));
}
