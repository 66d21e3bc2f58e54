import type { AcquireItem, AcquireLine, EndLine, Failure, Line } from "../history/records.ts";

/** All requests and answers of one operation of a user and method group. */
export interface Operation {
  readonly user: string;
  readonly group: number;
  readonly op: string;
  readonly points: number;
  readonly attempts: Attempt[];
  readonly ends: EndLine[];
  /** By lease id, in the order of their first answers. */
  readonly leases: Map<string, Lease>;
  /** The rows of the ledger: one for each day on which the operation was granted. */
  rows: readonly Row[];
}

export interface Attempt {
  readonly sent: number;
  readonly answered: number;
  readonly item: AcquireItem;
  readonly how: AcquireLine["how"];
}

/** One grant. */
export interface Lease {
  readonly lease: string;
  /** The time span of the grant: from the first request to the first answer. */
  readonly sent: number;
  readonly answered: number;
  /** By Redis' clock. */
  readonly granted: number;
  /** Answers that state the expiry. */
  readonly acks: { readonly sent: number; readonly answered: number; readonly expire: number }[];
}

/** A row of the table of leases. */
export interface Row {
  readonly op: string;
  readonly day: number;
  readonly username: string;
  readonly company: string;
  readonly timezone: number;
  readonly points: number;
  readonly grantedMs: number;
  readonly expireMs: number;
  /** 0 granted, 1 released, 2 settled. */
  readonly state: number;
  readonly settledPoints: number | null;
}

export function collectOperations(lines: readonly Line[], rows: readonly Row[]): Operation[] {
  const operations = new Map<string, Operation>();
  const get = (user: string, group: number, op: string, points: number) => {
    const known = operations.get(op);
    if (known !== undefined) return known;
    const made: Operation = { user, group, op, points, attempts: [], ends: [], leases: new Map(), rows: [] };
    operations.set(op, made);
    return made;
  };
  for (const line of lines) {
    if (line.call === "acquire") {
      for (const item of line.items) {
        const { sent, answered, how } = line;
        get(item.user, item.group, item.op, item.points).attempts.push({ sent, answered, item, how });
      }
    }
    if (line.call === "renew" || line.call === "settle" || line.call === "release")
      operations.get(line.op)?.ends.push(line);
  }
  for (const operation of operations.values()) collectLeases(operation);
  for (const row of rows) {
    const operation = operations.get(row.op);
    if (operation !== undefined) operation.rows = [...operation.rows, row];
  }
  return [...operations.values()];
}

function collectLeases({ attempts, ends, leases }: Operation): void {
  const granted = attempts
    .filter(({ item }) => item.lease !== undefined && item.isActive === true)
    .toSorted((left, right) => left.answered - right.answered);
  for (const { sent, answered, item } of granted) {
    const { lease = "", granted: grantedMs = 0, expire = 0 } = item;
    const known = leases.get(lease);
    if (known !== undefined) {
      known.acks.push({ sent, answered, expire });
      continue;
    }
    // Any earlier attempt may be the granted one.
    const first = Math.min(...attempts.filter(({ sent: one }) => one <= answered).map((one) => one.sent));
    leases.set(lease, { lease, sent: first, answered, granted: grantedMs, acks: [{ sent, answered, expire }] });
  }
  for (const { call, sent, answered, lease, answer, expire, failure } of ends) {
    if (call !== "renew" || failure !== undefined || expire === undefined) continue;
    leases.get(answer ?? lease)?.acks.push({ sent, answered, expire });
  }
}

/** Returns whether the call may have taken effect, or may still: only a refusal with a reason rules it out. */
export function isOpen(failure: Failure | undefined): boolean {
  return failure !== undefined && (failure.reason === "" || failure.code === "Unavailable");
}

/** Returns the row of a lease: of its grant, or of a later grant on the same day. */
export function rowOf({ rows }: Operation, { granted }: Lease): Row | undefined {
  return rows.find(({ grantedMs }) => Math.abs(grantedMs - granted) <= 1) ?? (rows.length === 1 ? rows[0] : undefined);
}

/**
 * Finds the first acknowledged settlement of an operation, or of one of its leases: an operation that is no longer
 * remembered may be granted and settled again.
 */
export function firstSettled({ ends }: Operation, of?: Lease): EndLine | undefined {
  return ends
    .filter(({ call, failure }) => call === "settle" && failure === undefined)
    .filter(({ lease, answer }) => of === undefined || (answer ?? lease) === of.lease)
    .toSorted((left, right) => left.answered - right.answered)[0];
}
