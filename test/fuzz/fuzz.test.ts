import { readFile } from "node:fs/promises";
import { type DescMethod, hasOption } from "@bufbuild/protobuf";
import { afterAll, beforeAll, expect, test } from "vitest";
import { http } from "#gen/google/api/annotations_pb.js";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { type ServerProcess, startProcess } from "../support/process.ts";
import { everyService } from "../support/services.ts";
import { type Caller, openCaller } from "./callers.ts";
import { createDice } from "./dice.ts";
import { judge, type Outcome } from "./judge.ts";
import { adminPassword, createKnown, type Known } from "./known.ts";
import { makeRequest, type Sent, type Transport, transports } from "./requests.ts";

/** The calls over all transports; `npm run test:fuzz` makes 100,000. A fault names its seed, which repeats it. */
const calls = Number(process.env["FUZZ_CALLS"] ?? 600);
const firstSeed = Number(process.env["FUZZ_SEED"] ?? 1);
const lanes = 8;
const heapMegabytes = 256;
const growthMegabytes = 160;
/** Enough calls to reach each method with each kind of value. */
const manyCalls = 20_000;
/** Calls delete resources, which are created again after this many calls. */
const restoredEvery = 300;

let database: TestDatabase;
let server: ServerProcess;
let methods: DescMethod[];
/** The methods with an HTTP binding. */
let bound: DescMethod[];
let known: Known;

beforeAll(async () => {
  database = await createTestDatabase();
  const command = [process.execPath, `--max-old-space-size=${heapMegabytes}`, "--import", "tsx", "src/main.ts"];
  server = await startProcess(
    {
      DATABASE_URL: database.url,
      TOKEN_KEYS: "J8hsgQ2mZk0vYt4xLr7pW3nBcD5fG6hK",
      ADMIN_PASSWORD: adminPassword,
      LOG_LEVEL: "error",
      BODY_TIMEOUT_MS: "500",
      // Refused logins are processed one at a time.
      LOGIN_FAILURES: "1000000",
      LOGIN_FAILURES_BY_ADDRESS: "1000000",
    },
    command,
  );
  methods = (await everyService()).flatMap((service) => service.methods);
  bound = methods.filter((method) => hasOption(method, http));
  known = await createKnown(server.url);
});
afterAll(async () => {
  await server.end();
  await database.drop();
});

test(`${calls} calls find no fault`, { timeout: 60_000 + calls * 100 }, async () => {
  const kinds: Record<string, Record<string, number>> = {};
  const statuses: Record<string, Record<string, number>> = {};
  const reached = new Map<string, Set<string>>();
  const faults: string[] = [];
  const megabytes: number[] = [];
  const warm = Math.min(calls, 500);
  let made = 0;
  const startedMs = performance.now();
  const callers = Array.from({ length: lanes }, () => openCaller(server.url));
  await Promise.all(callers.map(lane));
  for (const caller of callers) caller.close();
  megabytes.push(await residentMegabytes());
  const perSecond = Math.round((1000 * made) / (performance.now() - startedMs));
  const unreached = methods.map(({ name }) => name).filter((name) => reached.get(name)?.has("ok") !== true);
  console.table(kinds);
  console.log(JSON.stringify({ statuses, perSecond, megabytes, unreached }, null, 1), server.output().slice(-2000));
  expect(faults.slice(0, 20)).toEqual([]);
  expect(calls >= manyCalls ? unreached : [], "methods that no call was answered OK by").toEqual([]);
  expect(server.output(), "warnings").not.toMatch(/Warning/);
  expect(Math.max(...megabytes), "resident memory").toBeLessThan((megabytes[0] ?? 0) + growthMegabytes);
  for (const transport of transports) {
    const { ok = 0, refused = 0 } = kinds[transport] ?? {};
    expect(ok, `answers by ${transport}`).toBeGreaterThan(calls / transports.length / 5);
    expect(refused, `refusals by ${transport}`).toBeGreaterThan(0);
  }

  async function lane(caller: Caller): Promise<void> {
    while (made < calls && faults.length < 200) {
      const number = made;
      made += 1;
      if (number % restoredEvery === restoredEvery - 1) await known.restore();
      if (number === warm - 1 || number % 10_000 === 9_999) megabytes.push(await residentMegabytes());
      await call(caller, firstSeed + number, number);
    }
  }

  async function call(caller: Caller, seed: number, number: number): Promise<void> {
    const transport = transports[number % transports.length] as Transport;
    const candidates = transport.startsWith("gateway") ? bound : methods;
    const method = candidates[Math.floor(number / transports.length) % candidates.length] as DescMethod;
    const sent = makeRequest(createDice(seed), transport, method, known);
    const outcome = await caller.send(sent).then(
      (got) => judge(sent, got),
      (error: unknown): Outcome => ({ status: "none", kind: "reset", fault: String(error) }),
    );
    count(kinds, transport, outcome.kind);
    count(statuses, transport, outcome.status);
    reached.set(method.name, (reached.get(method.name) ?? new Set()).add(outcome.kind));
    if (outcome.kind === "ok") known.learn(method.name, outcome.json ?? "");
    if (outcome.fault !== undefined) faults.push(describe(seed, sent, outcome.fault));
  }

  function count(counts: typeof kinds, transport: Transport, name: string): void {
    const counted = (counts[transport] ??= {});
    counted[name] = (counted[name] ?? 0) + 1;
  }
});

function describe(seed: number, { transport, method, headers, body }: Sent, fault: string): string {
  const { authorization: _secret, ...shown } = headers;
  const start = JSON.stringify(body.subarray(0, 200).toString("latin1"));
  return `seed ${seed}, ${transport}, ${method.name}: ${fault}; ${JSON.stringify(shown)} ${start}`;
}

async function residentMegabytes(): Promise<number> {
  const status = await readFile(`/proc/${server.process.pid}/status`, "utf8");
  return Math.round(Number(/VmRSS:\s+(\d+)/.exec(status)?.[1]) / 1024);
}
