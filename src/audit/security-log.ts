import { randomUUID } from "node:crypto";
import type { Logger } from "pino";
import { Method_Group, Service_Name } from "#gen/tollgate/v1/tracedata_pb.js";
import { type Database, inTransaction } from "../postgres/database.ts";
import { withPartitions } from "../postgres/partitions.ts";
import type { Action, ActionWriter } from "../shared/records.ts";
import type { SecurityEvent, SecurityLog } from "../shared/security-log.ts";
import { administratorsOnly } from "./selection.ts";

export interface SecurityLogOptions {
  readonly database: Database;
  readonly logger: Logger;
  readonly actions: ActionWriter;
  /** Returns company keys by username. Unknown usernames are absent. */
  readonly companiesOf: (usernames: readonly string[]) => Promise<ReadonlyMap<string, string>>;
  /** The name of this server in tracedata. */
  readonly serverName: string;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
}

/** A future row of the audit log. */
interface Counted {
  readonly event: SecurityEvent;
  /** The time of the first counted event; 0 while none is counted. */
  firstMs: number;
  times: number;
  /** When the row is written, in milliseconds since the epoch. */
  dueMs: number;
}

type Counts = Map<string, Counted>;

/** The username and company of login attempts without a known user. */
export const unknownName = "__unknown__";

const tickMs = 1000;
/** A repeated event is counted for this long before its next row. */
const repeatMs = 60_000;
/** Maximum number of distinct events. Logins have their own limit: a flood of them must not displace reads. */
const maxKeys = { logins: 1000, reads: 5000 };

/**
 * Creates a log that counts events in memory by user, operation, resource and address. The first event is written within a
 * second. Its repetitions are counted and written a minute later as one row. Past the maximum number of distinct events,
 * further events are counted without resource and address. A failed write is retried.
 */
export function createSecurityLog(options: SecurityLogOptions): SecurityLog & { stop(): Promise<void> } {
  const { logger, now } = options;
  const logins: Counts = new Map();
  const reads: Counts = new Map();
  let timer: NodeJS.Timeout | undefined;
  let writing: Promise<void> | undefined;
  let isFailing = false;

  function count(counts: Counts, event: SecurityEvent, max: number): void {
    const key = keyOf(event);
    const known = counts.get(key);
    if (known === undefined && counts.size >= max) {
      const rest = restOf(event);
      // Each operation and reader has one entry for the rest, up to `max` more entries.
      if (keyOf(rest) !== key) return count(counts, rest, max * 2);
      return;
    }
    const counted = known ?? { event, firstMs: 0, times: 0, dueMs: now() };
    if (known === undefined) counts.set(key, counted);
    if (counted.times === 0) counted.firstMs = now();
    counted.times += 1;
  }

  function schedule(): void {
    timer ??= setTimeout(() => void tick(), tickMs).unref();
  }

  async function tick(): Promise<void> {
    const until = now();
    await writeDue(until);
    for (const counts of [logins, reads]) {
      for (const [key, { times, dueMs }] of counts) if (times === 0 && dueMs <= until) counts.delete(key);
    }
    timer = undefined;
    if (logins.size + reads.size > 0) schedule();
  }

  /** Writes rows that are due by `untilMs`, milliseconds since the epoch. */
  function writeDue(untilMs: number): Promise<void> {
    const due = [...logins.values(), ...reads.values()].filter(({ times, dueMs }) => times > 0 && dueMs <= untilMs);
    if (due.length === 0) return Promise.resolve();
    const rows = due.map((counted) => ({ ...counted }));
    for (const counted of due) {
      counted.times = 0;
      counted.dueMs = now() + repeatMs;
    }
    writing = attempt(due, rows, untilMs);
    return writing;
  }

  /** Writes the rows. On a failure, counts their events again. */
  async function attempt(due: readonly Counted[], rows: readonly Counted[], untilMs: number): Promise<void> {
    try {
      await write(options, rows);
      isFailing = false;
    } catch (error) {
      // Once for all attempts in a row.
      if (!isFailing) logger.warn({ err: error, waiting: rows.length }, "security event write failed");
      isFailing = true;
      for (const [index, counted] of due.entries()) {
        const { firstMs, times } = rows[index] as Counted;
        counted.firstMs = firstMs;
        counted.times += times;
        counted.dueMs = untilMs;
      }
    }
  }

  return {
    record(event) {
      if (event.read === undefined) count(logins, event, maxKeys.logins);
      else count(reads, event, maxKeys.reads);
      schedule();
    },
    async stop() {
      clearTimeout(timer);
      await writing;
      await writeDue(Number.POSITIVE_INFINITY);
    },
  };
}

function keyOf({ operation, outcome, user, address, read }: SecurityEvent): string {
  const { username, companyKey } = read ?? {};
  return [operation, outcome, user?.userId, user?.companyKey, address, username, companyKey].join(" ");
}

/** Returns the event without resource and address. A read keeps its reader. */
function restOf({ operation, outcome, tracecode, user, read }: SecurityEvent): SecurityEvent {
  return { operation, outcome, tracecode, ...(read === undefined ? { user: undefined } : { user, read: {} }) };
}

async function write({ database, actions, companiesOf, serverName }: SecurityLogOptions, rows: readonly Counted[]) {
  const names = rows.flatMap(({ event: { read } }) => (read?.companyKey === undefined ? (read?.username ?? []) : []));
  const companies = names.length === 0 ? new Map<string, string>() : await companiesOf([...new Set(names)]);
  const written = rows.map((counted) => toAction(counted, companies, serverName));
  await withPartitions(database, async () => {
    await actions.prepare(written);
    await inTransaction(database, (transaction) => actions.write(transaction, written));
  });
}

function toAction({ event, firstMs, times }: Counted, companies: ReadonlyMap<string, string>, server: string): Action {
  const { operation, outcome, tracecode, user, address, read } = event;
  const { username, companyKey = companies.get(username ?? "") } = read ?? {};
  const isOfUser = read === undefined && user !== undefined;
  return {
    timeMicros: firstMs * 1000,
    tracecode: tracecode.toLowerCase(),
    operation,
    part: randomUUID(),
    userId: user?.userId ?? 0,
    username: user?.username ?? unknownName,
    companyKey: user?.companyKey ?? unknownName,
    server,
    service: Service_Name.ADMIN,
    methodGroup: Method_Group.NOTRACE,
    outcome,
    resource: username ?? companyKey,
    visibleCompany: isOfUser ? undefined : (companyKey ?? administratorsOnly),
    address,
    times,
  };
}
