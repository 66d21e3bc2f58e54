/** Whether a text is an integer in decimal digits, with an optional minus. */
export function isDecimal(text: string): boolean {
  return /^-?\d+$/.test(text);
}

/** Parses a finite decimal number, such as "-1.5e3". Returns undefined for "0x10", " 1", "+1", "" and what overflows. */
export function parseNumber(text: string): number | undefined {
  if (!decimal.test(text)) return undefined;
  const number = Number(text);
  return Number.isFinite(number) ? number : undefined;
}

/**
 * Parses an integer exactly, "1.0" and "1e2" included. Returns undefined for text that is not an integer, has more than
 * 20 digits, or is longer than 100 characters: long arithmetic would take time that the caller chooses.
 */
export function parseInteger(text: string): bigint | undefined {
  if (text.length > 100) return undefined;
  if (isDecimal(text)) return BigInt(text);
  const match = decimal.exec(text);
  if (match === null) return undefined;
  const [, sign = "", whole = "", fraction = "", exponent = "0"] = match;
  const digits = `${whole}${fraction}`.replace(/^0+/, "");
  const significant = digits.replace(/0+$/, "");
  if (significant === "") return 0n;
  const zeros = Number(exponent) - fraction.length + digits.length - significant.length;
  // Fewer than no zeros: a digit stands right of the point.
  if (zeros < 0 || significant.length + zeros > 20) return undefined;
  return BigInt(`${sign}${significant}${"0".repeat(zeros)}`);
}

/** Whether JSON.parse reads the text of a number as an integer that it is not, such as 9007199254740991.4. */
export function isRounded(text: string): boolean {
  const number = Number(text);
  return Number.isInteger(number) && parseInteger(text) !== BigInt(number);
}

const decimal = /^(-?)(\d+)(?:\.(\d+))?(?:[eE]([+-]?\d+))?$/;
