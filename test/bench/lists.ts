/**
 * Reads over HTTP, by the processor time of the server alone: a page of users and one user beside Fastify with pg, a quota
 * check beside Connect's JSON, and the rows a second of a long list. Run by hand: npm run bench:lists. The folder of another
 * built version adds its figures, in alternate rounds: npm run bench:lists -- ../release. ROWS sets the length of the list.
 */
import { Agent, request as httpRequest } from "node:http";
import { openDatabase } from "../../src/postgres/database.ts";
import { median } from "./fixture.ts";
import { type Fixture, startFixture } from "./rivals/fixture.ts";
import { cpuSeconds, moveAside, type Server, startServer } from "./rivals/processes.ts";

const rowCount = Number(process.env["ROWS"] ?? 200_000);
const rounds = Number(process.env["ROUNDS"] ?? 4);
/** A service runs for days. In its first seconds, V8 still compiles: a page takes three times as long. */
const warmUpRounds = 6;
const roundMs = 1000;
const callers = 16;

/** A server and what is asked of it. */
interface Subject {
  readonly name: string;
  readonly server: Server;
  readonly token: string;
  readonly path: string;
  readonly body?: string;
}

interface Figures {
  /** Microseconds of the server's processor. */
  readonly perAnswer: number;
  readonly bytes: number;
  readonly answersPerSecond: number;
}

const agent = new Agent({ keepAlive: true, maxSockets: callers });
const checkBody = '{"username":"user_7","service":"UNIVERSAL","method_group":"PLAN","points":3}';

moveAside(process.pid);
const fixture = await startFixture();
const others = await Promise.all(
  process.argv.slice(2).map(async (folder) => [folder, await startFixture({ tree: folder })] as const),
);
const versions = [["ours", fixture] as const, ...others];
const fastify = await startServer(
  [process.execPath, "--import", "tsx", new URL("rivals/servers/fastify.ts", import.meta.url).pathname],
  fixture.environment,
);
try {
  for (const [what, path] of [
    ["a page of 50 users", "/admin/users?limit=50"],
    ["one user", "/admin/users/user_7"],
  ] as const) {
    const ours = versions.map(([name, { server, token }]): Subject => ({ name, server, token, path }));
    await compare(what, [...ours, { name: "Fastify + pg", server: fastify, token: fixture.token, path }]);
  }
  const paths = {
    "by Connect's JSON": "/tollgate.v1.QuotaService/CheckQuota",
    "by the gateway": "/quota/leases:check",
  };
  await compare(
    "a quota check",
    versions.flatMap(([version, { server, token }]) =>
      Object.entries(paths).map(
        ([name, path]): Subject => ({ name: `${version}, ${name}`, server, token, path, body: checkBody }),
      ),
    ),
  );
  for (const [, each] of versions) await fill(each);
  await compareLists();
} finally {
  agent.destroy();
  await fastify.stop();
  for (const [, each] of versions) await each.stop();
}
process.exit(0);

/** Prints the medians of rounds in which the subjects alternate. */
async function compare(what: string, subjects: readonly Subject[]): Promise<void> {
  const figures = new Map(subjects.map((subject) => [subject, [] as Figures[]]));
  for (let round = 0; round < warmUpRounds + rounds; round += 1) {
    for (const [subject, all] of figures) {
      const each = await load(subject);
      if (round >= warmUpRounds) all.push(each);
    }
  }
  const medians = [...figures].map(([{ name }, all]) => ({
    name,
    us: median(all.map(({ perAnswer }) => perAnswer)),
    bytes: all[0]?.bytes ?? 0,
  }));
  const last = medians.at(-1)?.us ?? Number.NaN;
  console.log(`\n${what}: µs of the server's core an answer, answers per core-second against the last line's`);
  for (const { name, us, bytes } of medians)
    console.log(`  ${name.padEnd(28)} ${us.toFixed(0).padStart(6)}  ${(last / us).toFixed(2)}  ${bytes} bytes`);
}

async function load(subject: Subject): Promise<Figures> {
  const startedMs = performance.now();
  const before = cpuSeconds(subject.server);
  let answers = 0;
  let bytes = 0;
  const caller = async () => {
    while (performance.now() < startedMs + roundMs) {
      bytes = await send(subject);
      answers += 1;
    }
  };
  await Promise.all(Array.from({ length: callers }, caller));
  const elapsed = (performance.now() - startedMs) / 1000;
  return {
    perAnswer: ((cpuSeconds(subject.server) - before) * 1e6) / answers,
    bytes,
    answersPerSecond: answers / elapsed,
  };
}

/** Returns the bytes of the answer's body. */
function send({ server, token, path, body }: Subject): Promise<number> {
  return new Promise((done, fail) => {
    const headers = {
      authorization: `Bearer ${token}`,
      ...(body !== undefined && { "content-type": "application/json", "content-length": Buffer.byteLength(body) }),
    };
    const sent = httpRequest(
      `${server.url}${path}`,
      { method: body === undefined ? "GET" : "POST", agent, headers },
      (response) => {
        let bytes = 0;
        response.on("data", (chunk: Buffer) => (bytes += chunk.length));
        response.once("end", () =>
          response.statusCode === 200 ? done(bytes) : fail(new Error(`${path}: ${response.statusCode}`)),
        );
        response.once("aborted", () => fail(new Error(`${path}: the answer was cut`)));
      },
    );
    sent.once("error", fail).end(body);
  });
}

async function fill({ environment }: Fixture): Promise<void> {
  const database = openDatabase({ url: environment["DATABASE_URL"] ?? "", poolSize: 1, statementTimeoutMs: 600_000 });
  await database.raw("drop index user_account_search");
  await database.raw(
    `insert into user_account (username, name, email, phone, company_key, enabled, roles, timezone)
     select 'row_' || i, 'Name ' || md5(i::text), md5((i * 7)::text) || '@example.com', '+7' || (100000 + i), 'acme',
       i % 10 <> 0, array[case when i % 100 = 0 then 'ADMIN' else 'USER' end], i % 12
     from generate_series(1, ?) as i`,
    [rowCount],
  );
  await database.raw("vacuum analyze user_account");
  await database.destroy();
}

async function compareLists(): Promise<void> {
  const figures = versions.map(([name, { server, token }]) => ({
    name,
    server,
    token,
    path: `/admin/users?limit=${rowCount}`,
    perCore: [] as number[],
    perSecond: [] as number[],
  }));
  for (let round = 0; round <= rounds; round += 1) {
    for (const subject of figures) {
      const [startedMs, before] = [performance.now(), cpuSeconds(subject.server)];
      await send(subject);
      if (round === 0) continue;
      subject.perSecond.push((rowCount * 1000) / (performance.now() - startedMs));
      subject.perCore.push(rowCount / (cpuSeconds(subject.server) - before));
    }
  }
  console.log(`\na list of ${rowCount} users: rows per core-second of the server, rows a second`);
  for (const { name, perCore, perSecond } of figures)
    console.log(
      `  ${name.padEnd(28)} ${median(perCore).toFixed(0).padStart(8)} ${median(perSecond).toFixed(0).padStart(8)}`,
    );
}
