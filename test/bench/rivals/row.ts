import type { Fixture } from "./fixture.ts";
import type { Speed } from "./measure.ts";
import { type Server, startServer } from "./processes.ts";

/** One comparison of the table. */
export interface Row {
  readonly row: string;
  readonly what: string;
  readonly unit: string;
  readonly ours: number;
  readonly rivals: number;
  /** The service's figure divided by the rival's, or the inverse when less is better. */
  readonly ratio: number;
  readonly aim: string;
}

export type MakeRows = (fixture: Fixture) => Promise<Row[]>;

export const perCore = "per core-second";

export function row(
  name: string,
  what: string,
  unit: string,
  [ours, rivals]: readonly [number, number],
  aim: number,
): Row {
  return { row: name, what, unit, ours, rivals, ratio: ours / rivals, aim: `≥ ${aim}` };
}

export function speedOf(speeds: ReadonlyMap<string, Speed>, name: string): Speed {
  const none = Number.NaN;
  return speeds.get(name) ?? { wall: none, perCoreSecond: none, perCoreSecondOfAll: none, p99: none };
}

export function startRival(name: string, { environment }: Fixture): Promise<Server> {
  const script = new URL(`servers/${name}.ts`, import.meta.url).pathname;
  return startServer([process.execPath, "--import", "tsx", script], environment);
}
