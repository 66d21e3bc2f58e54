import type { SaxesTagNS } from "saxes";
import { parseNumberFormat, type ShapeOf, shapeOfBuiltIn } from "./number-format.ts";
import type { Package } from "./package.ts";
import { attributeOf, type ElementRule, readXml, unescapeText } from "./xml.ts";

/** Maps the index of a cell style to its shape; undefined when the workbook has no such style. */
export type StyleShapes = (style: number) => ShapeOf | undefined;

/** The styles of a workbook without a styles part: one style, which shows numbers. */
export const plainStyles: StyleShapes = (style) => (style === 0 ? () => "number" : undefined);

/**
 * Reads the shape of each cell style (ECMA-376 part 1, 18.8.10).
 * @throws WorkbookError when the XML is invalid
 */
export async function readStyles(from: Package, part: string, count: (more: number) => void): Promise<StyleShapes> {
  const codes = new Map<number, string>();
  const namedStyles: (number | undefined)[] = [];
  const cellStyles: number[] = [];
  const numberOf = (element: SaxesTagNS, name: string) => {
    const text = attributeOf(element, name);
    return text === undefined ? undefined : Number(text);
  };
  const rule: ElementRule = {
    children: {
      styleSheet: {
        children: {
          numFmts: {
            children: {
              numFmt: {
                open: (element) =>
                  codes.set(numberOf(element, "numFmtId") ?? 0, unescapeText(attributeOf(element, "formatCode") ?? "")),
              },
            },
          },
          cellStyleXfs: {
            children: { xf: { open: (element) => namedStyles.push(numberOf(element, "numFmtId")) } },
          },
          cellXfs: {
            children: {
              xf: {
                // A cell style inherits the number format of its named style.
                open: (element) =>
                  cellStyles.push(numberOf(element, "numFmtId") ?? namedStyles[numberOf(element, "xfId") ?? 0] ?? 0),
              },
            },
          },
        },
      },
    },
  };
  await readXml(from.read(part), { part, rule, count });

  const shapes = new Map<number, ShapeOf>();
  const shapeOfFormat = (id: number): ShapeOf => {
    const code = codes.get(id);
    const shape: ShapeOf = code === undefined ? () => shapeOfBuiltIn(id) : parseNumberFormat(code);
    shapes.set(id, shape);
    return shape;
  };
  return (style) => {
    const id = cellStyles[style];
    if (id === undefined) return plainStyles(cellStyles.length === 0 ? style : -1);
    return shapes.get(id) ?? shapeOfFormat(id);
  };
}
