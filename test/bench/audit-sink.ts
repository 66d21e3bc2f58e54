/**
 * Measures what the audit sink costs: processor time of this process and of PostgreSQL for an action that is recorded, without
 * and with a sink in alternate rounds, and for one that is sent to a receiver on this machine. Run by hand: npm run bench:sink.
 */
import { randomBytes, randomUUID } from "node:crypto";
import { chmod, mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import pino from "pino";
import { sendWebhook } from "../../src/alerts/webhook.ts";
import { startAuditSink } from "../../src/audit/sink.ts";
import { createActionWriter } from "../../src/audit/writer.ts";
import { openDatabase } from "../../src/postgres/database.ts";
import { startEmbedded } from "../../src/postgres/embedded/embedded.ts";
import { migrate } from "../../src/postgres/migrate.ts";
import type { Action } from "../../src/shared/records.ts";
import { median } from "./fixture.ts";
import { cpuSeconds } from "./rivals/processes.ts";

const batchSizes = [10, 500];
const actionsPerRound = 5000;
const rounds = 9;

const folder = await mkdtemp(join(tmpdir(), "tollgate-sink-"));
await chmod(folder, 0o711);
const postgres = await startEmbedded({ folder, onExit: () => console.error("PostgreSQL has ended") });
// One connection, whose process is measured.
const database = openDatabase({ url: postgres.url, poolSize: 1, statementTimeoutMs: 3_600_000 });
const receiver = createServer((request, response) => request.resume().once("end", () => response.writeHead(204).end()));
receiver.listen(0, "127.0.0.1");
try {
  await migrate(database);
  await database.raw("set synchronous_commit = off");
  const { rows } = await database.raw<{ rows: { pid: number }[] }>("select pg_backend_pid() as pid");
  const backend = { child: { pid: rows[0]?.pid } };
  const noRollUp = { scheduleRollUp: () => undefined, stop: async () => undefined };
  const [without, withSink] = [false, true].map((hasSink) => createActionWriter(database, noRollUp, hasSink));
  if (without === undefined || withSink === undefined) throw new Error("two writers are compared");
  await without.prepare([makeAction(0)]);
  for (const size of batchSizes) {
    const costs = { without: [] as Cost[], recorded: [] as Cost[], sent: [] as Cost[] };
    for (let round = 0; round <= rounds; round += 1) {
      const batches = [without, withSink].map(() => makeBatches(size));
      const plain = await measure(() => write(without, batches[0] ?? []));
      const recorded = await measure(() => write(withSink, batches[1] ?? []));
      const sent = await measure(sendAll);
      // The first round warms up.
      if (round === 0) continue;
      costs.without.push(plain);
      costs.recorded.push(recorded);
      costs.sent.push(sent);
    }
    for (const [name, list] of Object.entries(costs)) {
      const [server, pg] = (["server", "postgres"] as const).map((part) => median(list.map((cost) => cost[part])));
      console.log(
        `batches of ${size}, ${name}: server ${server?.toFixed(1)} µs, PostgreSQL ${pg?.toFixed(1)} µs an action`,
      );
    }
  }

  /** Returns the microseconds of an action. */
  async function measure(work: () => Promise<void>): Promise<Cost> {
    const [before, postgresBefore] = [process.cpuUsage(), cpuSeconds(backend)];
    await work();
    const { user, system } = process.cpuUsage(before);
    const postgres = ((cpuSeconds(backend) - postgresBefore) * 1e6) / actionsPerRound;
    return { server: (user + system) / actionsPerRound, postgres };
  }
} finally {
  receiver.close();
  await database.destroy();
  await postgres.stop();
  await rm(folder, { recursive: true });
}
process.exit(0);

interface Cost {
  readonly server: number;
  readonly postgres: number;
}

async function write(writer: ReturnType<typeof createActionWriter>, batches: readonly Action[][]): Promise<void> {
  for (const batch of batches) {
    await database.transaction(async (transaction) => void (await writer.write(transaction, batch)));
  }
}

/** Sends all that waits. */
async function sendAll(): Promise<void> {
  const url = `http://127.0.0.1:${(receiver.address() as AddressInfo).port}/`;
  const keys = [randomBytes(32)];
  const sink = startAuditSink({
    database,
    logger: pino({ level: "error" }),
    send: (batch) => sendWebhook(batch, { url, keys, timeoutMs: 10_000, now: () => Date.now() }),
    schedule: { pollMs: 20 },
  });
  while (sink.counts.actions.sent < actionsPerRound) await wait(20);
  await sink.stop();
}

function makeBatches(size: number): Action[][] {
  return Array.from({ length: actionsPerRound / size }, () =>
    Array.from({ length: size }, (_none, n) => makeAction(n)),
  );
}

function makeAction(number: number): Action {
  return {
    timeMicros: Date.now() * 1000 + number,
    tracecode: randomUUID(),
    operation: `run_${number % 4}`,
    userId: number % 100,
    username: `user_${number % 100}`,
    companyKey: `company_${number % 20}`,
    server: "planner_1",
    service: 2,
    methodGroup: 3,
    points: number,
    durationMs: 30,
    outcome: 1,
  };
}
