/*
 * The layout of JSON in a workbook. It is readable for people and can be converted back.
 *
 * An array is a sheet, and each element is a row. JSON that is not an array is a sheet with one row. A field of a nested
 * object is a column with a dotted name: `address.city`. An array inside an element has its own sheet, whose rows name
 * their parent row. The first cell of a sheet is `#` and the path of its array, `# orders[].items`. For the root it is
 * `# []`, or `# {}` when the root is not an array. The first column holds the row numbers. `#parent` holds the number of
 * the parent row. `#value` holds an element that is not an object.
 *
 * A cell is a number, a boolean or a text. Any other value is written as JSON, `json:null`. So is a text that a
 * spreadsheet program would change.
 */

/** The data cannot be converted. The message is the reason, for the caller. */
export class ConversionError extends Error {}

export const marker = "#";
export const parentColumn = "#parent";
export const valueColumn = "#value";
export const literal = "json:";
/** Follows an array in a path. */
export const each = "[]";
/** Replaces the path when the root is not an array. */
export const single = "{}";
/** Cells of all sheets: each one takes memory and time. */
export const maxCells = 1_000_000;
/** Characters of all cells, each with its column name: one shared text or one name may be in many cells. */
export const maxCharacters = 67_108_864;
/** Characters of one cell in Excel. */
export const maxText = 32_767;

/** Escapes, as in JSON, the characters that have a meaning in a path or that a sheet cannot hold. */
export function escapeKey(key: string): string {
  if (key === "") return String.raw`\0`;
  // XML cannot hold control characters.
  const special = /[\\.#[\]\p{Cc}\ud800-\udfff\ufffe\uffff]|_(?=x[0-9a-f]{4}_)|^\s|\s$|^\{(?=\}$)/giu;
  return key.replaceAll(special, (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

/** Reverses escapeKey. */
export function unescapeKey(text: string): string {
  if (text === String.raw`\0`) return "";
  return text.replaceAll(/\\u([0-9a-f]{4})/g, (_all, code: string) => String.fromCharCode(Number.parseInt(code, 16)));
}
