/**
 * The kind of value that a number format shows. `dayOrTime` is a built-in format whose meaning depends on the language of
 * the program.
 */
export type Shape = "number" | "date" | "time" | "dateTime" | "duration" | "dayOrTime";

/** The shape depends on the value: a format has sections for positive, negative and zero values, or by condition. */
export type ShapeOf = (value: number) => Shape;

/** Ids of date and time formats that have no code in the file (ECMA-376 part 1, 18.8.30). */
const builtIn: readonly (readonly [first: number, last: number, shape: Shape])[] = [
  [14, 17, "date"],
  [18, 21, "time"],
  [22, 22, "dateTime"],
  [27, 31, "date"],
  // Years and months, or hours and minutes, depending on the language.
  [32, 35, "dayOrTime"],
  [36, 36, "date"],
  [45, 45, "time"],
  [46, 46, "duration"],
  [47, 47, "time"],
  [50, 54, "date"],
  [55, 56, "dayOrTime"],
  [57, 58, "date"],
  // Thai.
  [71, 74, "date"],
  [75, 76, "time"],
  [77, 77, "dateTime"],
  [78, 78, "time"],
  [79, 79, "duration"],
  [80, 80, "time"],
  [81, 81, "date"],
];

/** Returns the shape of a built-in format, which has no code in the file. */
export function shapeOfBuiltIn(id: number): Shape {
  return builtIn.find(([first, last]) => id >= first && id <= last)?.[2] ?? "number";
}

interface Section {
  readonly shape: Shape | "text";
  readonly condition: ((value: number) => boolean) | undefined;
}

/** Reads the code of a number format (ECMA-376 part 1, 18.8.31). */
export function parseNumberFormat(code: string): ShapeOf {
  const sections = splitSections(code).map((tokens) => parseSection(tokens));
  // A section with @ applies to text only. Numbers use the sections before it.
  const numeric = sections.filter(({ shape }, index) => shape !== "text" && index < 3);
  return (value) => {
    const shape = chooseSection(numeric, value)?.shape ?? "number";
    return shape === "text" ? "number" : shape;
  };
}

function chooseSection(sections: readonly Section[], value: number): Section | undefined {
  const [first, second, third] = sections;
  if (first === undefined || second === undefined) return first;
  const isFirst = first.condition ?? ((number: number) => (third === undefined ? number >= 0 : number > 0));
  if (isFirst(value)) return first;
  if (third === undefined) return second;
  const isSecond = second.condition ?? ((number: number) => number < 0);
  return isSecond(value) ? second : third;
}

const token = new RegExp(
  [
    /"[^"]*(?:"|$)/, // quoted text
    /\\./, // an escaped character
    /_./, // a space as wide as the character
    /\*./, // a repeated character
    /\[[^\]]*\]/, // elapsed time, condition, color, currency and language
    /General/,
    /AM\/PM|A\/P/,
    /E[+-]/, // an exponent
    /B[12](?=[dmy])/, // a calendar
    /(?<=d)T(?=h)|(?<=[s0])Z/, // unescaped T and Z of ISO 8601
    /y+|m+|d+|h+|s+|e+|g+|b+|a+/,
    /[.,]0+/,
    /./,
  ]
    .map(({ source }) => source)
    .join("|"),
  "gisu",
);

function splitSections(code: string): string[][] {
  const sections: string[][] = [[]];
  for (const [text] of code.matchAll(token)) {
    if (text === ";") sections.push([]);
    else sections.at(-1)?.push(text);
  }
  return sections;
}

const elapsed = /^\[(?:h+|m+|s+)\]$/i;
const conditional = /^\[(<=|>=|<>|<|>|=)\s*(-?\d+(?:\.\d+)?)\]$/;
const dateToken = /^(?:y+|m{3,}|d+|e+|g+|b+|b[12]|a{3,4})$/i;
const timeToken = /^(?:h+|s+|am\/pm|a\/p)$/i;

function parseSection(tokens: readonly string[]): Section {
  const condition = tokens.map((text) => conditionOf(text)).find((found) => found !== undefined);
  return { shape: shapeOfSection(tokens), condition };
}

function shapeOfSection(tokens: readonly string[]): Shape | "text" {
  let [hasDate, hasTime, hasElapsed, hasDigits, hasUnknown] = [false, false, false, false, false];
  const parts = tokens.filter((text) => isDateOrTimePart(text));
  let at = -1;
  for (const [index, text] of tokens.entries()) {
    if (isDateOrTimePart(text)) at += 1;
    if (text === "@") return "text";
    if (elapsed.test(text)) hasElapsed = true;
    else if (/^m{1,2}$/i.test(text)) {
      // After an hour or before a second, `m` is a minute. Everywhere else it is a month.
      if (isHour(parts[at - 1]) || isSecond(parts[at + 1])) hasTime = true;
      else hasDate = true;
    } else if (dateToken.test(text)) hasDate = true;
    else if (timeToken.test(text)) hasTime = true;
    else if (/^[.,]0+$/.test(text)) hasDigits ||= !isSecond(tokens[index - 1]);
    else if (/^[0#?]$/.test(text) || /^e[+-]$/i.test(text)) hasDigits = true;
    else if (/^[a-z]+$/i.test(text) && !/^(?:general|t|z)$/i.test(text)) hasUnknown = true;
  }
  // Unknown letters are not a date format: they may be the word "General" in another language.
  if (hasDigits || hasUnknown) return "number";
  if (hasElapsed && !hasDate) return "duration";
  if (hasDate) return hasTime || hasElapsed ? "dateTime" : "date";
  return hasTime ? "time" : "number";
}

function isDateOrTimePart(text: string): boolean {
  return elapsed.test(text) || /^(?:y+|m+|d+|h+|s+)$/i.test(text);
}

function isHour(text: string | undefined): boolean {
  return /^\[?h+\]?$/i.test(text ?? "");
}

function isSecond(text: string | undefined): boolean {
  return /^\[?s+\]?$/i.test(text ?? "");
}

function conditionOf(text: string): Section["condition"] {
  const [, operator, number] = conditional.exec(text) ?? [];
  if (operator === undefined) return undefined;
  const limit = Number(number);
  return (value) => {
    if (operator === "<") return value < limit;
    if (operator === "<=") return value <= limit;
    if (operator === ">") return value > limit;
    if (operator === ">=") return value >= limit;
    return (value === limit) === (operator === "=");
  };
}
