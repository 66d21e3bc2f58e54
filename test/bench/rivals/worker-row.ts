import { compare, load } from "./measure.ts";
import { type MakeRows, perCore, row, speedOf } from "./row.ts";

const pairsOfWorker = 150;
/** Rounds of pairs without a pause for each worker, after which V8 has compiled its code. */
const warmUpRounds = 5;
const counts = [1, 2, 4];

/**
 * Acquire and settle by more processes. Each has the same load, which two cores can carry: processes that wait for a core
 * or for work cost more for a pair, whatever their number. The processor time of all of them is counted.
 */
export const compareWorkers: MakeRows = async ({ token, startService }) => {
  const servers = await Promise.all(counts.map((count) => startService({ WORKERS: String(count) }, "any")));
  for (const [index, server] of servers.entries()) {
    const count = counts[index] ?? 1;
    for (let round = 0; round < count * warmUpRounds; round += 1) await load("pairs", server.url, token, count * 64);
  }
  const speeds = await compare(
    servers.map((server, index) => {
      const count = counts[index] ?? 1;
      return { name: String(count), server, load: () => load("steady", server.url, token, count * pairsOfWorker) };
    }),
  );
  await Promise.all(servers.map((server) => server.stop()));
  const one = speedOf(speeds, "1").perCoreSecond;
  return counts.slice(1).map((count) => {
    const { perCoreSecond } = speedOf(speeds, String(count));
    return row("h", `acquire+settle, WORKERS=${count} | WORKERS=1`, `pairs ${perCore}`, [perCoreSecond, one], 0.9);
  });
};
