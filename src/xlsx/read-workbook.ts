import type { CellContext } from "./cell.ts";
import { limitOf, type ReadLimits, WorkbookError } from "./limits.ts";
import { openPackage, type Package } from "./package.ts";
import { type Relationship, readRelationships } from "./relationships.ts";
import type { DateSystem } from "./serial.ts";
import { readSharedStrings } from "./shared-strings.ts";
import { plainStyles, readStyles } from "./styles.ts";
import { type ReadRow, readWorksheet } from "./worksheet.ts";
import { attributeOf, type ElementRule, parseBoolean, readXml, relationshipIdOf, unescapeText } from "./xml.ts";

export interface ReadSheet {
  readonly name: string;
  readonly isHidden: boolean;
  readonly rows: readonly ReadRow[];
}

/** Sheets that hold no cells. */
const withoutCells = new Set(["chartsheet", "dialogsheet"]);

/**
 * Reads the cells of an XLSX workbook (ECMA-376, transitional and strict). Sheets are in the order of the workbook.
 * @throws WorkbookError that names the place and the reason when a value cannot be read exactly
 */
export async function readWorkbook(zip: Buffer, limits: ReadLimits): Promise<ReadSheet[]> {
  const from = await openPackage(zip, limits);
  const counters = {
    element: limitOf(limits.elements, "elements"),
    row: limitOf(limits.cells, "rows"),
    cell: limitOf(limits.cells, "cells"),
  };
  const count = counters.element;
  const part = await findWorkbook(from, count);
  const workbook = await readWorkbookPart(from, part, count);
  const relationships = await readRelationships(from, part, count);
  const targetOf = (type: string) => [...relationships.values()].find((relation) => relation.type === type)?.target;
  const [strings, styles] = [targetOf("sharedStrings"), targetOf("styles")];
  const context: CellContext = {
    strings: strings === undefined ? [] : await readSharedStrings(from, strings, { limits, count }),
    shapes: styles === undefined ? plainStyles : await readStyles(from, styles, count),
    dateSystem: workbook.dateSystem,
    mustCalculate: workbook.mustCalculate,
  };
  const sheets: ReadSheet[] = [];
  for (const { name, isHidden, target } of locateSheets(workbook.sheets, relationships)) {
    sheets.push({ name, isHidden, rows: await readWorksheet(from, target, { name, context, counters }) });
  }
  return sheets;
}

async function findWorkbook(from: Package, count: (more: number) => void): Promise<string> {
  const relationships = await readRelationships(from, "/", count);
  const found = [...relationships.values()].find(({ type }) => type === "officeDocument");
  // The usual name, for files without root relationships.
  const part = found?.target ?? "/xl/workbook.xml";
  if (!from.has(part)) throw new WorkbookError("it is not a workbook");
  if (/\.bin$/i.test(part)) throw new WorkbookError("it is a binary workbook (XLSB)");
  return part;
}

interface SheetEntry {
  readonly name: string;
  readonly isHidden: boolean;
  readonly relationshipId: string | undefined;
}

async function readWorkbookPart(from: Package, part: string, count: (more: number) => void) {
  const sheets: SheetEntry[] = [];
  let isWorkbook = false;
  let dateSystem: DateSystem = "1900";
  let mustCalculate = false;
  const children: Record<string, ElementRule> = {
    workbookPr: {
      open(element) {
        const is1904 = parseBoolean(attributeOf(element, "date1904") ?? "false");
        const isCompatible = parseBoolean(attributeOf(element, "dateCompatibility") ?? "true");
        if (is1904 === undefined || isCompatible === undefined) {
          throw new WorkbookError("the workbook's date system must be true or false");
        }
        if (is1904) dateSystem = "1904";
        else if (!isCompatible) dateSystem = "1900-iso";
      },
    },
    calcPr: {
      open: (element) => (mustCalculate = parseBoolean(attributeOf(element, "fullCalcOnLoad") ?? "0") ?? false),
    },
    sheets: {
      children: {
        sheet: {
          open: (element) =>
            sheets.push({
              name: unescapeText(attributeOf(element, "name") ?? ""),
              isHidden: /^(veryH|h)idden$/.test(attributeOf(element, "state") ?? ""),
              relationshipId: relationshipIdOf(element),
            }),
        },
      },
    },
  };
  const workbook: ElementRule = { open: () => (isWorkbook = true), children };
  await readXml(from.read(part), { part, rule: { children: { workbook } }, count });
  if (!isWorkbook) throw new WorkbookError("it is not a workbook");
  if (sheets.length === 0) throw new WorkbookError("it has no sheets");
  return { sheets, dateSystem, mustCalculate };
}

function locateSheets(sheets: readonly SheetEntry[], relationships: ReadonlyMap<string, Relationship>) {
  const names = new Set<string>();
  const targets = new Set<string>();
  const found: { name: string; isHidden: boolean; target: string }[] = [];
  for (const { name, isHidden, relationshipId } of sheets) {
    const relationship = relationships.get(relationshipId ?? "");
    if (relationship === undefined) throw new WorkbookError(`the sheet ${name} has no part in the file`);
    const { type, target } = relationship;
    if (withoutCells.has(type)) continue;
    if (type !== "worksheet") throw new WorkbookError(`the sheet ${name} is of a kind that cannot be read: ${type}`);
    if (names.has(name)) throw new WorkbookError(`it has two sheets named ${name}`);
    if (targets.has(target.toLowerCase())) throw new WorkbookError(`two sheets are the same part ${target}`);
    names.add(name);
    targets.add(target.toLowerCase());
    found.push({ name, isHidden, target });
  }
  return found;
}
