import { compare, load } from "./measure.ts";
import { type MakeRows, perCore, row, speedOf } from "./row.ts";

const callersOfWorker = 64;
const counts = [1, 2, 4];

/** Acquire and settle by more processes. Processor time of all of them is counted: two cores must not hide the growth. */
export const compareWorkers: MakeRows = async ({ token, startService }) => {
  const servers = await Promise.all(counts.map((count) => startService({ WORKERS: String(count) }, "any")));
  const speeds = await compare(
    servers.map((server, index) => {
      const count = counts[index] ?? 1;
      return { name: String(count), server, load: () => load("pairs", server.url, token, count * callersOfWorker) };
    }),
  );
  await Promise.all(servers.map((server) => server.stop()));
  const one = speedOf(speeds, "1").perCoreSecond;
  return counts.slice(1).map((count) => {
    const { perCoreSecond } = speedOf(speeds, String(count));
    return row("h", `acquire+settle, WORKERS=${count} | WORKERS=1`, `pairs ${perCore}`, [perCoreSecond, one], 0.9);
  });
};
