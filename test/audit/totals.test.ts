import { randomUUID } from "node:crypto";
import fc from "fast-check";
import pino from "pino";
import { afterAll, beforeAll, expect, test } from "vitest";
import { bucketsOf, countActions } from "../../src/audit/buckets.ts";
import { createRollUp, dropAuditTotals, type RollUp } from "../../src/audit/roll-up.ts";
import type { ActionFilter } from "../../src/audit/selection.ts";
import { type ActionRow, sortableActionColumns, streamActions } from "../../src/audit/store.ts";
import { createActionWriter } from "../../src/audit/writer.ts";
import { dropPartitions } from "../../src/postgres/partitions.ts";
import { dayMicros, hourMicros } from "../../src/shared/calendar.ts";
import type { Page } from "../../src/shared/pagination.ts";
import type { Action } from "../../src/shared/records.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { runs } from "../support/runs.ts";

const firstDay = Math.floor(Date.UTC(2026, 9, 10) / 86_400_000);
const start = firstDay * dayMicros;
const silent = new AbortController().signal;

/** The edges of hours and days where actions are, in microseconds after the start. */
const edges = [0, 1, hourMicros - 1, hourMicros, dayMicros - 1, dayMicros, 3 * dayMicros];

/** Over four days, of which the third has none, some at the very edges of hours and days. */
const actions: Action[] = Array.from({ length: 6000 }, (_none, index) => {
  const user = (index * 31) % 7;
  const edge = edges[index % 400];
  const day = [0, 1, 3][index % 3] as number;
  return {
    timeMicros: start + (edge ?? day * dayMicros + ((index * 104_729) % 86_400) * 1_000_000),
    tracecode: randomUUID(),
    operation: index % 700 === 5 ? "rare_operation" : (["run_plan", "run_route"][index % 2] as string),
    userId: user,
    username: `user_${user}`,
    companyKey: `company_${user % 3}`,
    server: "planner",
    service: index % 97 === 0 ? 4 : 2,
    methodGroup: 1 + (index % 5),
    points: (index * 31) % 997,
    outcome: 1,
    // Changes of another company's resources, of which some are for administrators alone.
    ...(index % 97 === 0 && { visibleCompany: ["company_0", "company_1", "company_2", ""][index % 4] as string }),
  };
});

let fixture: TestDatabase;
let rollUp: RollUp;
beforeAll(async () => {
  fixture = await createTestDatabase();
  rollUp = createRollUp({ database: fixture.database, logger: pino({ level: "silent" }) });
  // More batches than one roll-up moves; those of the last quarter are still pending when they are read.
  await write(actions.slice(0, 4500));
  await rollUp.stop();
  await write(actions.slice(4500));
});
afterAll(() => fixture.drop());

async function write(some: readonly Action[]): Promise<void> {
  const writer = createActionWriter(fixture.database, { ...rollUp, scheduleRollUp: () => undefined });
  await writer.prepare(some);
  for (let index = 0; index < some.length; index += 20) {
    await fixture.database.transaction((transaction) => writer.write(transaction, some.slice(index, index + 20)));
  }
}

function matches(selection: ActionFilter, action: Action): boolean {
  const { from, to, user, company, visibleTo, method } = selection;
  return (
    from <= action.timeMicros &&
    action.timeMicros < to &&
    (user.username ?? action.username) === action.username &&
    (user.user_id ?? action.userId) === action.userId &&
    (company ?? action.companyKey) === action.companyKey &&
    (visibleTo === undefined || visibleTo === (action.visibleCompany ?? action.companyKey)) &&
    (method.service ?? action.service) === action.service &&
    (method.method_group ?? action.methodGroup) === action.methodGroup &&
    (method.operation ?? action.operation) === action.operation
  );
}

const time = fc.oneof(
  fc.integer({ min: start - hourMicros, max: start + 5 * dayMicros }),
  fc.integer({ min: -1, max: 5 * 24 }).map((hours) => start + hours * hourMicros),
  fc.integer({ min: 0, max: 5 }).map((days) => start + days * dayMicros),
  // A period that begins or ends right after an action at an edge.
  fc.constantFrom(...edges.map((edge) => start + edge + 1)),
);
const optional = (name: string, value: fc.Arbitrary<string | number>) =>
  fc.option(value, { nil: undefined, freq: 1 }).map((one) => (one === undefined ? {} : { [name]: one }));
const user = fc.integer({ min: 0, max: 7 });
const company = fc.integer({ min: 0, max: 3 }).map((index) => `company_${index}`);
const selections = fc
  .record({
    period: fc.tuple(time, time),
    username: optional(
      "username",
      user.map((index) => `user_${index}`),
    ),
    userId: optional("user_id", user),
    company: optional("company", company),
    visibleTo: optional("visibleTo", company),
    service: optional("service", fc.constantFrom(2, 4)),
    group: optional("method_group", fc.integer({ min: 1, max: 6 })),
    operation: optional("operation", fc.constantFrom("run_plan", "run_route", "rare_operation")),
  })
  .map(({ period, username, userId, company: ofCompany, visibleTo, service, group, operation }): ActionFilter => {
    // A user's own list selects by number and name, never by number alone.
    const of = username["username"] !== undefined ? { ...username, ...userId } : {};
    const [from, to] = period.toSorted((left, right) => left - right) as [number, number];
    return { from, to, user: of, ...ofCompany, ...visibleTo, method: { ...service, ...group, ...operation } };
  });
const pages = fc.record({
  offset: fc.oneof(fc.integer({ min: 0, max: 50 }), fc.integer({ min: 0, max: 7000 })),
  limit: fc.oneof(fc.integer({ min: 1, max: 100 }), fc.integer({ min: 1, max: 7000 })),
  direction: fc.constantFrom("asc" as const, "desc" as const),
  sort: fc.constantFrom("time", "time", "time", "username", "points", "company_key, username"),
});

async function read(selection: ActionFilter, page: Page): Promise<ActionRow[]> {
  const buckets = await bucketsOf(fixture.database, selection);
  const rows = streamActions(fixture.database, { selection, buckets, page, signal: silent });
  const read: ActionRow[] = [];
  for await (const some of rows) read.push(...some);
  return read;
}

/** Computes the page by sorting all matching actions in memory. */
function expected(selection: ActionFilter, { offset, limit, direction, sort }: Page): string[] {
  const keys: Record<string, (action: Action) => (string | number)[]> = {
    time: () => [],
    username: ({ username }) => [username],
    points: ({ points = 0 }) => [points],
    "company_key, username": ({ companyKey, username }) => [companyKey, username],
  };
  const keyOf = (action: Action) => [...(keys[sort]?.(action) ?? []), action.timeMicros, action.tracecode];
  const compare = (first: Action, second: Action): number => {
    const [left, right] = [keyOf(first), keyOf(second)];
    const index = left.findIndex((value, at) => value !== right[at]);
    return index === -1 ? 0 : (left[index] as string) < (right[index] as string) ? -1 : 1;
  };
  const sorted = actions.filter((action) => matches(selection, action)).toSorted(compare);
  if (direction === "desc") sorted.reverse();
  return sorted.slice(offset, offset + limit).map(({ tracecode }) => tracecode);
}

test("the roll-up moves pending batches, and later batches stay pending", async () => {
  expect(await fixture.database("audit_pending").count()).toEqual([{ count: 75 }]);
});

test("counts every selection exactly and returns its pages in order", { timeout: 120_000 }, async () => {
  await fc.assert(
    fc.asyncProperty(selections, pages, async (selection, page) => {
      const buckets = await bucketsOf(fixture.database, selection);
      expect(countActions(buckets)).toBe(actions.filter((action) => matches(selection, action)).length);
      const rows = await read(selection, page);
      expect(rows.map(({ tracecode }) => tracecode)).toEqual(expected(selection, page));
    }),
    { numRuns: runs(200) },
  );
});

test("sorts by every field", async () => {
  const selection: ActionFilter = { from: start, to: start + 9 * dayMicros, user: {}, method: {} };
  for (const sort of new Set(Object.values(sortableActionColumns))) {
    const rows = await read(selection, { offset: 3, limit: 5, sort, direction: "desc" });
    expect(rows).toHaveLength(5);
  }
});

test("retention drops days together with their totals", async () => {
  const selection: ActionFilter = { from: 0, to: start + 9 * dayMicros, user: {}, method: {} };
  await dropPartitions(fixture.database, "audit_action", firstDay + 1);
  await dropAuditTotals(fixture.database, ((firstDay + 1) * dayMicros) / 1000);
  await fixture.database("audit_pending").delete();
  const kept = actions.slice(0, 4500).filter(({ timeMicros }) => timeMicros >= start + dayMicros);
  expect(countActions(await bucketsOf(fixture.database, selection))).toBe(kept.length);
});

test("reads a user's page far into a busy day from totals that are kept by day", async () => {
  const [template] = actions as [Action];
  const busy = { ...template, username: "busy", userId: 70 };
  const from = start + 20 * dayMicros;
  const many = Array.from({ length: 1200 }, (_none, index) => ({
    ...busy,
    tracecode: randomUUID(),
    timeMicros: from + index * 60_000_000,
  }));
  await write(many);
  await rollUp.stop();
  for (const level of [{ user: { username: "busy" } }, { user: {} }]) {
    const selection: ActionFilter = { from, to: from + dayMicros, ...level, method: {} };
    const rows = await read(selection, { offset: 1001, limit: 50, sort: "time", direction: "asc" });
    expect(rows.map(({ tracecode }) => tracecode)).toEqual(many.slice(1001, 1051).map(({ tracecode }) => tracecode));
  }
});
