/**
 * What a number format shows: a number, a day, a time of day, both, an elapsed time. `dayOrTime` is a built-in format
 * whose meaning depends on the language of the program.
 */
export type Shape = "number" | "date" | "time" | "dateTime" | "duration" | "dayOrTime";

/** The shape of a value: formats have sections for positive, negative and zero values, or by condition. */
export type ShapeOf = (value: number) => Shape;

/** ECMA-376 part 1, 18.8.30: the ids of date and time formats that have no code in the file. */
const builtIn: readonly (readonly [first: number, last: number, shape: Shape])[] = [
  [14, 17, "date"],
  [18, 21, "time"],
  [22, 22, "dateTime"],
  [27, 31, "date"],
  // Years and months, or hours and minutes, by the language.
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

/** The shape that a format without a code has. */
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
  // A section of text is for text alone: the sections before it are for numbers.
  const numeric = sections.filter(({ shape }, index) => shape !== "text" && index < 3);
  return (value) => {
    const shape = chooseSection(numeric, value)?.shape ?? "number";
    return shape === "text" ? "number" : shape;
  };
}

function chooseSection(sections: readonly Section[], value: number): Section | undefined {
  const [first, second, third] = sections;
  if (first === undefined || second === undefined) return first;
  const isFirst = first.condition ?? ((one: number) => (third === undefined ? one >= 0 : one > 0));
  if (isFirst(value)) return first;
  if (third === undefined) return second;
  const isOther = second.condition ?? ((one: number) => one < 0);
  return isOther(value) ? second : third;
}

const token = new RegExp(
  [
    /"[^"]*(?:"|$)/, // quoted text
    /\\./, // an escaped letter
    /_./, // a space as wide as the letter
    /\*./, // the letter, repeated
    /\[[^\]]*\]/, // elapsed time, condition, colour, currency and language
    /General/,
    /AM\/PM|A\/P/,
    /E[+-]/, // an exponent
    /B[12](?=[dmy])/, // a calendar
    /(?<=d)T(?=h)|(?<=[s0])Z/, // ISO 8601, with its letters not escaped
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
  for (const [one] of code.matchAll(token)) {
    if (one === ";") sections.push([]);
    else sections.at(-1)?.push(one);
  }
  return sections;
}

const elapsed = /^\[(?:h+|m+|s+)\]$/i;
const conditional = /^\[(<=|>=|<>|<|>|=)\s*(-?\d+(?:\.\d+)?)\]$/;
const dateToken = /^(?:y+|m{3,}|d+|e+|g+|b+|b[12]|a{3,4})$/i;
const timeToken = /^(?:h+|s+|am\/pm|a\/p)$/i;

function parseSection(tokens: readonly string[]): Section {
  const condition = tokens.map((one) => conditionOf(one)).find((one) => one !== undefined);
  return { shape: shapeOfSection(tokens), condition };
}

function shapeOfSection(tokens: readonly string[]): Shape | "text" {
  let [hasDate, hasTime, hasElapsed, hasDigits, hasUnknown] = [false, false, false, false, false];
  const parts = tokens.filter((one) => isPart(one));
  let at = -1;
  for (const [index, one] of tokens.entries()) {
    if (isPart(one)) at += 1;
    if (one === "@") return "text";
    if (elapsed.test(one)) hasElapsed = true;
    else if (/^m{1,2}$/i.test(one)) {
      if (isHour(parts[at - 1]) || isSecond(parts[at + 1])) hasTime = true;
      else hasDate = true;
    } else if (dateToken.test(one)) hasDate = true;
    else if (timeToken.test(one)) hasTime = true;
    else if (/^[.,]0+$/.test(one)) hasDigits ||= !isSecond(tokens[index - 1]);
    else if (/^[0#?]$/.test(one) || /^e[+-]$/i.test(one)) hasDigits = true;
    else if (/^[a-z]+$/i.test(one) && !/^(?:general|t|z)$/i.test(one)) hasUnknown = true;
  }
  // Letters that no date has: the word for General in another language, say.
  if (hasDigits || hasUnknown) return "number";
  if (hasElapsed && !hasDate) return "duration";
  if (hasDate) return hasTime || hasElapsed ? "dateTime" : "date";
  return hasTime ? "time" : "number";
}

function isPart(one: string): boolean {
  return elapsed.test(one) || /^(?:y+|m+|d+|h+|s+)$/i.test(one);
}

/** After an hour or before a second, `m` is a minute. Everywhere else it is a month. */
function isHour(one: string | undefined): boolean {
  return /^\[?h+\]?$/i.test(one ?? "");
}

function isSecond(one: string | undefined): boolean {
  return /^\[?s+\]?$/i.test(one ?? "");
}

function conditionOf(one: string): Section["condition"] {
  const [, operator, text] = conditional.exec(one) ?? [];
  if (operator === undefined) return undefined;
  const limit = Number(text);
  return (value) => {
    if (operator === "<") return value < limit;
    if (operator === "<=") return value <= limit;
    if (operator === ">") return value > limit;
    if (operator === ">=") return value >= limit;
    return (value === limit) === (operator === "=");
  };
}
