/**
 * The positions of numbers that JSON.parse rounds to an integer, such as 9007199254740991.4: by key or index, level by
 * level. A leaf is such a number.
 */
export type RoundedNumbers = ReadonlyMap<string | number, RoundedNumbers>;

/** A rounded number. */
export const roundedLeaf: RoundedNumbers = new Map();

/**
 * Adds the position of a rounded number. Keys are not joined to paths: a body may have many numbers below a long key.
 * @param before undefined: there is none yet
 * @param path the keys and indexes from the root to the number
 */
export function addRounded(before: RoundedNumbers | undefined, path: readonly (string | number)[]): RoundedNumbers {
  if (path.length === 0) return roundedLeaf;
  const root = (before ?? new Map()) as Map<string | number, RoundedNumbers>;
  let branch = root;
  for (const at of path.slice(0, -1)) {
    const below = (branch.get(at) ?? new Map()) as typeof root;
    branch.set(at, below);
    branch = below;
  }
  branch.set(path.at(-1) ?? "", roundedLeaf);
  return root;
}
