type Value = string | number | bigint | boolean | null | undefined;

/**
 * A column of values for unnest, as PostgreSQL writes an array. pg would do the same, and takes twice the time over it
 * for values that need no care: a thousand rows have fifteen thousand of them.
 * @param pick the value of a row; null where it has none
 */
export function columnOf<Row>(rows: readonly Row[], pick: (row: Row) => Value): string {
  let column = "";
  for (const row of rows) {
    const value = pick(row) ?? "NULL";
    column += `${column === "" ? "{" : ","}${value}`;
  }
  return column === "" ? "{}" : `${column}}`;
}

/** The same of text, which may hold any character. */
export function textColumnOf<Row>(rows: readonly Row[], pick: (row: Row) => string | null | undefined): string {
  return columnOf(rows, (row) => {
    const text = pick(row);
    return text === undefined || text === null ? text : quoted(text);
  });
}

function quoted(text: string): string {
  const isPlain = !text.includes("\\") && !text.includes('"');
  return `"${isPlain ? text : text.replaceAll(/[\\"]/g, String.raw`\$&`)}"`;
}
