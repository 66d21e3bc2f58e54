import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { getHeapSpaceStatistics } from "node:v8";

/** Runs a program of its own, because other tests make garbage too. Returns the number of bytes that it prints. */
export async function garbageLeftBy(options: readonly string[], program: string, ...values: string[]): Promise<number> {
  // Without a full collection, which would free what is left to it.
  const all = [...options, "--initial-old-space-size=512", "--import", "tsx", `test/support/${program}`, ...values];
  const { stdout } = await promisify(execFile)(process.execPath, all);
  if (!/^-?\d+\n$/.test(stdout)) throw new Error(`${program} printed ${stdout}`);
  return Number(stdout);
}

/** Returns the size of the old generation, in bytes: it grows by what is left to a full garbage collection. */
export function oldBytes(): number {
  return getHeapSpaceStatistics().find((space) => space.space_name === "old_space")?.space_used_size ?? Number.NaN;
}

/** Many small collections, and the first full one when the program asks for it. */
export const smallCollections = [
  "--expose-gc",
  "--max-semi-space-size=4",
  "--min-semi-space-size=4",
  "--no-allocation-site-pretenuring",
];
