/**
 * How JSON lies in sheets, so that people read it and it can be read back.
 *
 * An array is a sheet, each of its elements a row; a JSON that is no array is a sheet of one row. Fields of objects
 * within objects are columns, `address.city`. An array within an element is a sheet of its own, whose rows name the row
 * they belong to. The first cell of a sheet is `#` and the path of its array, `# orders[].items`, of the outermost one
 * `# []` or, where that is no array, `# {}`; below it are the numbers of the rows. `#parent` is the number of the row
 * that a row belongs to, `#value` an element that is no object.
 *
 * A cell is a number, a boolean or a text. What is none of them is written as JSON, `json:null`, and so are texts that
 * would not survive as they are.
 */
export class ConversionError extends Error {}

export const marker = "#";
export const parentColumn = "#parent";
export const valueColumn = "#value";
export const literal = "json:";
/** Between a path and the element in which it goes on. */
export const each = "[]";
/** In the place of the path where the JSON is no array. */
export const single = "{}";
/** Cells of all sheets: each takes memory and time. */
export const maxCells = 1_000_000;
/** Letters of all cells, with their column's name: a shared text or a name may stand in many cells. */
export const maxLetters = 67_108_864;
/** Letters of one cell in Excel. */
export const maxText = 32_767;

/** Writes a key for a path: letters with a meaning there, or that a sheet cannot hold, are escaped as in JSON. */
export function escapeKey(key: string): string {
  if (key === "") return String.raw`\0`;
  // Control characters cannot be in XML.
  const special = /[\\.#[\]\p{Cc}\ud800-\udfff\ufffe\uffff]|_(?=x[0-9a-f]{4}_)|^\s|\s$|^\{(?=\}$)/giu;
  return key.replaceAll(special, (one) => `\\u${one.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

export function unescapeKey(text: string): string {
  if (text === String.raw`\0`) return "";
  return text.replaceAll(/\\u([0-9a-f]{4})/g, (_all, code: string) => String.fromCharCode(Number.parseInt(code, 16)));
}
