/**
 * Prints by how many bytes the old generation grows with each piece of work that has ended. Argument: "commit" for entries of
 * a group commit, "track" for running work, "enter" for items that may be evicted. Needs --expose-gc: the first full collection
 * makes what lives long old, as it is in a server that has run for a while.
 */
import { setTimeout as wait } from "node:timers/promises";
import { pino } from "pino";
import { createGroupCommit } from "../../src/postgres/group-commit.ts";
import { createRunningWork } from "../../src/shared/running-work.ts";
import { createOldestEviction } from "../../src/transport/eviction.ts";
import { oldBytes } from "./garbage-left.ts";

const perRound = 32;
const running = createRunningWork();
const eviction = createOldestEviction(1000, 10_000);
const queue = createGroupCommit<{ readonly key: string; readonly content: unknown }>({
  name: "the queue",
  logger: pino({ enabled: false }),
  write: async (entries) => {
    await wait(1);
    return entries.map(() => undefined);
  },
  describe: () => ({}),
  merging: { keyOf: ({ key }) => key, merge: (_earlier, later) => later },
});
/** About 2 KB. */
const makeContent = () => Array.from({ length: 50 }, (_none, index) => ({ index }));
const works = {
  commit: (key: string) => queue.commit({ key, content: makeContent() }),
  track: () => running.track(wait(1, makeContent())),
  async enter() {
    const content = makeContent();
    const leave = eviction.enter(() => content.pop());
    await wait(1);
    leave();
  },
};
const begin = works[process.argv[2] as keyof typeof works];

await work(100);
globalThis.gc?.();
await work(100);
const before = oldBytes();
await work(500);
console.log(Math.round((oldBytes() - before) / (500 * perRound)));
process.exit();

async function work(rounds: number): Promise<void> {
  for (let round = 0; round < rounds; round += 1) {
    await Promise.all(Array.from({ length: perRound }, (_none, index) => begin(`${round} ${index}`)));
  }
}
