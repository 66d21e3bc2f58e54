import { compare, load, type Rival, type Speed } from "./measure.ts";
import type { Server } from "./processes.ts";
import { type MakeRows, perCore, row, speedOf, startRival } from "./row.ts";

const callers = 64;

/**
 * Acquire and settle with the same guarantees: the service beside what a team would build instead, called unary, and by the
 * client library that comes with the service.
 */
export const compareWithLedger: MakeRows = async (fixture) => {
  const ledger = await startRival("grpc-js-ledger", fixture);
  const otherPids = [fixture.postgresPid, fixture.redis.child.pid ?? 0];
  const rival = (name: string, server: Server, kind: string): Rival => ({
    name,
    server,
    otherPids,
    load: () => load(kind, server.url, fixture.token, callers),
  });
  const speeds = await compare([
    rival("service", fixture.server, "pairs"),
    rival("client", fixture.server, "coalesced"),
    rival("ledger", ledger, "pairs"),
  ]);
  await ledger.stop();
  const theirs = speedOf(speeds, "ledger");
  return Object.entries({ service: "whole service", client: "whole service, createQuotaClient" }).flatMap(
    ([name, text]) => {
      const ours = speedOf(speeds, name);
      const what = `acquire+settle, ${text} | grpc-js, script, one transaction a settlement`;
      const make = (unit: string, field: keyof Speed) => row("j", what, unit, [ours[field], theirs[field]], 4);
      return [
        make(`pairs ${perCore}`, "perCoreSecond"),
        make(`pairs ${perCore}, with PostgreSQL and Redis`, "perCoreSecondOfAll"),
        make("pairs/s", "wall"),
        { ...make("ms, p99", "p99"), ratio: theirs.p99 / ours.p99 },
      ];
    },
  );
};
