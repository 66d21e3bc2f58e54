/**
 * Returns the offered media type that a header Accept prefers (RFC 9110, 12.5.1). If qualities are equal, a range that names
 * the type wins over a wildcard, then the range that stands first in the header. Parameters other than the quality are
 * ignored. Returns the first offered type without a header, and when no range matches.
 */
export function preferredType<Type extends string>(accept: string | null, offered: readonly [Type, ...Type[]]): Type {
  const ranges = (accept ?? "").split(",", maxRanges).map(parseRange);
  const candidates = offered.flatMap((type) => candidateOf(type, ranges) ?? []);
  // A sort is stable: the order of the offer decides last.
  const [best] = candidates.toSorted(
    (left, right) => right.quality - left.quality || right.precision - left.precision || left.position - right.position,
  );
  return best?.type ?? offered[0];
}

/** Browsers send ten. */
const maxRanges = 100;

interface Range {
  readonly name: string;
  /** 0 to 1. 0: not acceptable. */
  readonly quality: number;
}

function parseRange(text: string): Range {
  const [name = "", ...parameters] = text.split(";").map((part) => part.trim().toLowerCase());
  const quality = parameters.find((parameter) => parameter.startsWith("q="))?.slice(2) ?? "1";
  return { name, quality: /^(0(\.\d{0,3})?|1(\.0{0,3})?)$/.test(quality) ? Number(quality) : 0 };
}

/** Returns the quality of a type, which is that of the most precise range. Undefined: the type is not acceptable. */
function candidateOf<Type extends string>(type: Type, ranges: readonly Range[]) {
  const names = ["*/*", `${type.slice(0, type.indexOf("/"))}/*`, type];
  const [range] = ranges
    .map(({ name, quality }, position) => ({ type, quality, precision: names.indexOf(name), position }))
    .filter(({ precision }) => precision >= 0)
    .toSorted((left, right) => right.precision - left.precision);
  return range === undefined || range.quality === 0 ? undefined : range;
}
