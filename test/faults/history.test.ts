import { expect, test } from "vitest";
import { noOwnRedis } from "../support/redis.ts";
import { checkHistory } from "./check/check.ts";
import { describeRun, optionsOf, runHistory, timeoutOf } from "./history/run.ts";

const options = optionsOf(process.env);

test.skipIf(noOwnRedis !== "")(
  "all books are right after days of calls, changes and faults",
  {
    timeout: timeoutOf(options),
  },
  async () => {
    const { world, summary } = await runHistory(options);
    try {
      const verdicts = await checkHistory(world.historyFile, world.databaseUrl);
      console.log([...describeRun(options, summary), ...verdicts.lines()].join("\n"));
      expect([...summary.troubles, ...verdicts.failures()]).toEqual([]);
      await world.removeHistory();
    } finally {
      await world.stop();
    }
  },
);
