import { randomUUID } from "node:crypto";
import pino from "pino";
import { afterEach, beforeEach, expect, test } from "vitest";
import { createSecurityLog } from "../../src/audit/security-log.ts";
import { createActionWriter } from "../../src/audit/writer.ts";
import { failedLoginEvent, type SecurityEvent } from "../../src/shared/security-log.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";

let fixture: TestDatabase;
beforeEach(async () => {
  fixture = await createTestDatabase();
});
afterEach(() => fixture.drop());

function open(lines: string[] = []) {
  const { database } = fixture;
  return createSecurityLog({
    database,
    logger: pino({}, { write: (line) => lines.push(line) }),
    actions: createActionWriter(database, { scheduleRollUp: () => undefined, stop: async () => undefined }),
    companiesOf: async () => new Map(),
    serverName: "test_server",
    now: () => Date.now(),
  });
}
const failed = (address: string, user?: SecurityEvent["user"]): SecurityEvent => ({
  ...failedLoginEvent,
  tracecode: randomUUID(),
  user,
  address,
});
const read = (reader: number, username: string): SecurityEvent => ({
  operation: "read_user",
  outcome: 1,
  tracecode: randomUUID(),
  user: { userId: reader, username: `reader_${reader}`, companyKey: "acme" },
  read: { username, companyKey: "acme" },
});
const rows = () => fixture.database("audit_action").select("username", "operation", "resource", "address", "times");

test("counts every event in a bounded number of rows", async () => {
  const log = open();
  for (let index = 0; index < 20_000; index += 1) log.record(failed(`10.${index >> 8}.${index & 255}.1`));
  for (let index = 0; index < 20_000; index += 1) log.record(read(1 + (index % 2), `user_${index}`));
  await log.stop();
  const written = await rows();
  const ofLogins = written.filter(({ operation }) => operation === "login");
  const ofReads = written.filter(({ operation }) => operation === "read_user");
  const sum = (some: typeof written) => some.reduce((total, { times }) => total + times, 0);
  expect([ofLogins.length, sum(ofLogins)]).toEqual([1001, 20_000]);
  expect(ofLogins.filter(({ address }) => address === null)).toMatchObject([
    { username: "__unknown__", times: 19_000 },
  ]);
  // A reader keeps its name, whatever the number of reads.
  expect([ofReads.length, sum(ofReads)]).toEqual([5002, 20_000]);
  expect(
    ofReads
      .filter(({ resource }) => resource === null)
      .map(({ username }) => username)
      .toSorted(),
  ).toEqual(["reader_1", "reader_2"]);
});

test("a flood of logins does not displace reads", async () => {
  const log = open();
  for (let index = 0; index < 5000; index += 1) log.record(failed(`10.${index >> 8}.${index & 255}.1`));
  log.record(read(1, "anna"));
  await log.stop();
  expect((await rows()).filter(({ resource }) => resource === "anna")).toHaveLength(1);
});

test("keeps counting events that cannot be written, and writes them later", async () => {
  await fixture.drop();
  fixture = await createTestDatabase({ statementTimeoutMs: 500 });
  const lines: string[] = [];
  const log = open(lines);
  log.record(failed("10.0.0.1"));
  const lock = await fixture.database.transaction();
  await lock.raw("lock table audit_action in access exclusive mode");
  await expect.poll(() => lines.length, { timeout: 10_000 }).toBeGreaterThan(0);
  log.record(failed("10.0.0.1"));
  await lock.rollback();
  await log.stop();
  const written = await rows();
  expect(written.reduce((total, { times }) => total + times, 0)).toBe(2);
});
