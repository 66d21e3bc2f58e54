const decimal = /^[+-]?0*(\d*)(?:\.(\d*))?(?:e([+-]?\d+))?$/i;
/** The limit of Number.toExponential. */
const maxDigits = 101;

/**
 * Parses a decimal number that a double holds exactly: when the double is rounded to the digits of the text, the result
 * is the text. So `0.1` and `0.10000000000000001` are exact, `12345678901234567890` is not.
 * @returns undefined for any other text
 */
export function parseExactNumber(text: string): number | undefined {
  const match = decimal.exec(text);
  if (match === null || !/\d/.test(text)) return undefined;
  const value = Number(text);
  const [, whole = "", fraction = "", exponent = "0"] = match;
  if (whole.length + fraction.length <= 15 && exponent === "0") return value;
  const digits = (whole + fraction).replace(/^0+/, "");
  const significant = digits.replace(/0+$/, "");
  if (significant === "") return value;
  if (significant.length > maxDigits || !Number.isFinite(value)) return undefined;
  const firstDigit = digits.length - fraction.length - 1;
  const [rounded = "", power = ""] = Math.abs(value)
    .toExponential(significant.length - 1)
    .split("e");
  const isSame = rounded.replace(".", "") === significant && Number(power) === Number(exponent) + firstDigit;
  return isSame ? value : undefined;
}
