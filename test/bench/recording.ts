/**
 * Compares the recording of audit actions with a bare INSERT of the same rows, alternately, in one run. Run by hand:
 * npm run bench:recording.
 */
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { type ClientHttp2Session, connect, type IncomingHttpHeaders } from "node:http2";
import { create, toBinary } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { RecordActionsRequestSchema } from "#gen/tollgate/v1/audit_pb.js";
import { columnOf } from "../../src/postgres/columns.ts";
import { ensurePartitions } from "../../src/postgres/partitions.ts";
import { defineStatements, executeStatement, keepPlan } from "../../src/postgres/statements.ts";
import { median, startFixture, timed } from "./fixture.ts";

const users = 2000;
const today = Math.floor(Date.now() / 86_400_000);

const sql = defineStatements("bench", {
  insertBare: keepPlan(`
    insert into bare (
      time, tracecode, operation, part, user_id, username, company_key, server, service, method_group, points,
      duration_ms, outcome, resource, usage_day
    )
    select to_timestamp(ms / 1000.0), tracecode, operation, part, user_id, username, company_key, server, service,
      method_group, points, null, 0, null, date '1970-01-01' + usage_day
    from unnest(
      $1::bigint[], $2::uuid[], $3::text[], $4::uuid[], $5::bigint[], $6::text[], $7::text[], $8::text[], $9::smallint[],
      $10::smallint[], $11::bigint[], $12::integer[]
    ) as action (
      ms, tracecode, operation, part, user_id, username, company_key, server, service, method_group, points, usage_day
    )`),
});

const { database, server, token, end } = await startFixture();
try {
  await database.raw("insert into company (key) select 'company_' || i from generate_series(0, 19) as i");
  await database.raw(
    `insert into user_account (username, company_key, enabled, roles, timezone)
     select 'user_' || i, 'company_' || i % 20, true, '{USER}', 0 from generate_series(0, ?) as i`,
    [users - 1],
  );
  await ensurePartitions(database, "audit_action", new Set([today - 1, today]));
  await recording();
} finally {
  await end();
}

/**
 * Sends batches from two concurrent callers to the service and to the bare INSERT alternately. Both get prepared
 * requests in their wire form.
 */
async function recording(): Promise<void> {
  await database.raw("create table bare (like audit_action including all)");
  const session = connect(server.url);
  for (const size of [100, 1000]) {
    const rates: { recorded: number[]; bare: number[] } = { recorded: [], bare: [] };
    for (let round = 0; round < 16; round += 1) {
      const batches = Array.from({ length: Math.ceil(20_000 / size) }, (_, index) => batch(size, round * 1000 + index));
      const bodies = batches.map(toBody);
      const recorded = await fromTwo(bodies, (body) => record(session, body));
      const columns = batches.map(toColumns);
      const bare = await fromTwo(columns, insert);
      // The first rounds warm up.
      if (round < 8) continue;
      rates.recorded.push((batches.length * size * 1000) / recorded);
      rates.bare.push((batches.length * size * 1000) / bare);
    }
    const [serviceRate, bareRate] = [median(rates.recorded), median(rates.bare)];
    console.log(
      `recording, batches of ${size}, two callers: ${serviceRate.toFixed(0)} durable actions/s; bare INSERT ${bareRate.toFixed(0)} rows/s; ratio ${(serviceRate / bareRate).toFixed(2)}`,
    );
  }
  session.close();
}

function fromTwo<Item>(items: readonly Item[], work: (item: Item) => Promise<unknown>): Promise<number> {
  const next = items.values();
  const caller = async () => {
    for (const item of next) await work(item);
  };
  return timed(async () => void (await Promise.all([caller(), caller()])));
}

function batch(size: number, base: number) {
  return Array.from({ length: size }, (_, index) => ({
    tracecode: randomUUID(),
    user: (base + index * 31) % users,
    operation: `run_${index % 4}`,
    timeMs: Date.now() - index,
    points: index,
  }));
}
type Batch = ReturnType<typeof batch>;

/** Returns a gRPC message with its prefix of five bytes. */
function toBody(actions: Batch): Buffer {
  const message = toBinary(
    RecordActionsRequestSchema,
    create(RecordActionsRequestSchema, {
      actions: actions.map(({ user, timeMs, ...action }) => ({
        ...action,
        username: `user_${user}`,
        service: 2,
        methodGroup: 3,
        server: "planner_1",
        time: timestampFromMs(timeMs),
      })),
    }),
  );
  const head = Buffer.alloc(5);
  head.writeUInt32BE(message.length, 1);
  return Buffer.concat([head, message]);
}

async function record(session: ClientHttp2Session, body: Buffer): Promise<void> {
  const stream = session.request({
    ":method": "POST",
    ":path": "/tollgate.v1.AuditService/RecordActions",
    "content-type": "application/grpc",
    te: "trailers",
    authorization: `Bearer ${token}`,
  });
  const ended = Promise.race([once(stream, "trailers"), once(stream, "response").then(([head]) => refused(head))]);
  stream.resume();
  stream.end(body);
  const [trailers] = await ended;
  if (trailers["grpc-status"] !== "0") throw new Error(`${trailers["grpc-status"]}: ${trailers["grpc-message"]}`);
}

/** Reads the status: from the headers of a response without a message, from the trailers otherwise. */
function refused(head: IncomingHttpHeaders): Promise<[IncomingHttpHeaders]> {
  return head["grpc-status"] === undefined ? new Promise(() => undefined) : Promise.resolve([head]);
}

function toColumns(actions: Batch): string[] {
  return [
    columnOf(actions, ({ timeMs }) => timeMs),
    columnOf(actions, ({ tracecode }) => tracecode),
    columnOf(actions, ({ operation }) => operation),
    columnOf(actions, () => "00000000-0000-0000-0000-000000000000"),
    columnOf(actions, ({ user }) => user),
    columnOf(actions, ({ user }) => `user_${user}`),
    columnOf(actions, ({ user }) => `company_${user % 20}`),
    columnOf(actions, () => "planner_1"),
    columnOf(actions, () => 2),
    columnOf(actions, () => 3),
    columnOf(actions, ({ points }) => points),
    columnOf(actions, () => today),
  ];
}

async function insert(columns: readonly string[]): Promise<void> {
  await executeStatement(database, sql.insertBare, columns);
}
