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
  const isText = (written: string) => {
    const [rounded = "", power = ""] = written.split("e");
    return rounded.replace(".", "") === significant && Number(power) === Number(exponent) + firstDigit;
  };
  const magnitude = Math.abs(value);
  // toExponential rounds a tie up. The shortest text of a double may round it down: 819345095920506.25 is written with one decimal, as .2.
  const isSame = isText(magnitude.toExponential(significant.length - 1)) || isText(magnitude.toExponential());
  return isSame ? value : undefined;
}
