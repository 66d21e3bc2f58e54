import type { Line } from "../history/records.ts";
import { certainCharge } from "./charges.ts";
import type { Clock } from "./clock.ts";
import { groupBy } from "./group.ts";
import { firstSettled, isOpen, type Operation } from "./leases.ts";
import { createSteps } from "./steps.ts";
import type { Verdicts } from "./verdicts.ts";

interface Options {
  readonly operations: readonly Operation[];
  readonly lines: readonly Line[];
  readonly clock: Clock;
  readonly isCommit: boolean;
  readonly verdicts: Verdicts;
}

/** How long, and among how many of its meter, an ended operation is remembered: below the defaults. */
const rememberedMs = 23 * 3_600_000;
const rememberedOperations = 1500;

/** Checks that every acknowledged settlement is in the ledger, and that no two answers contradict each other. */
export function checkAnswers({ operations, lines, clock, isCommit, verdicts }: Options): void {
  const settledTimes = new Map(
    [...groupBy(operations, ({ user, group }) => `${user} ${group}`)].map(([meter, of]) => [
      meter,
      createSteps(of.flatMap(({ ends }) => ends.map(({ answered }) => ({ at: answered, by: 1 })))),
    ]),
  );
  for (const operation of operations) {
    checkSettlements(operation);
    checkGrants(operation);
    checkRepeats(operation);
    checkRenewals(operation);
  }
  for (const line of lines) checkError(line);

  function checkSettlements({ op, user, ends, rows, points, leases }: Operation): void {
    const settles = ends.filter(({ call }) => call === "settle");
    const acknowledged = settles.filter(({ failure }) => failure === undefined);
    for (const [lease, of] of groupBy(acknowledged, ({ lease: id }) => id)) {
      const acknowledgedPoints = new Set(of.map(({ points }) => points));
      verdicts.expect(
        "one lease, one settlement",
        acknowledgedPoints.size === 1,
        () => `${lease} of ${op}, ${user}: ${[...acknowledgedPoints].join(" and ")}`,
      );
    }
    for (const { points: acknowledgedPoints } of acknowledged) {
      verdicts.expect(
        "no acknowledged settlement lost",
        rows.some(({ state, settledPoints }) => state === 2 && settledPoints === acknowledgedPoints),
        () => `${op} of ${user}: ${acknowledgedPoints} acknowledged, the ledger has ${JSON.stringify(rows)}`,
      );
    }
    for (const { state, settledPoints, points: reserved } of rows) {
      if (state === 2) {
        verdicts.expect(
          "every settlement was sent by a caller",
          settles.some(({ points: sentPoints }) => sentPoints === settledPoints),
          () => `${op} of ${user}: settled with ${settledPoints}`,
        );
      }
      verdicts.expect(
        "a lease has the requested points",
        reserved === points,
        () => `${op}: ${reserved}, not ${points}`,
      );
    }
    for (const { failure, points: sentPoints, answered, lease } of settles) {
      if (failure === undefined || isOpen(failure)) continue;
      const isOther = settles.some((other) => other.points !== sentPoints && other.sent < answered);
      verdicts.expect(
        "a settlement is refused only for a different settlement",
        failure.reason === "LEASE_SETTLED_DIFFERENTLY" && isOther,
        () =>
          `${lease} of ${op}, ${user}, ${sentPoints} points, answered ${answered.toFixed()}: ${failure.code} ${failure.reason} ${failure.message}; ${leases.size} leases`,
      );
    }
  }

  function checkGrants({ op, user, leases, rows }: Operation): void {
    if (!isCommit) return;
    for (const { granted } of leases.values()) {
      const isKept = rows.some(({ grantedMs }) => grantedMs >= granted - 1);
      verdicts.expect(
        "no acknowledged grant lost",
        isKept,
        () => `${op} of ${user}, granted ${granted}: ${JSON.stringify(rows)}`,
      );
    }
  }

  /** Checks that a settled operation is not granted again while it is remembered. */
  function checkRepeats(operation: Operation): void {
    const settled = firstSettled(operation);
    if (settled === undefined) return;
    const ended = settledTimes.get(`${operation.user} ${operation.group}`);
    for (const { sent, answered, item } of operation.attempts) {
      if (sent < settled.answered) continue;
      const age = clock.most(settled.sent, answered) - clock.least(settled.sent, settled.answered);
      const later = (ended?.at(answered) ?? 0) - (ended?.at(settled.answered) ?? 0);
      if (age > rememberedMs || later > rememberedOperations) continue;
      verdicts.expect(
        "no settled operation granted again",
        item.lease === undefined,
        () =>
          `${operation.op} of ${operation.user}: settled by ${settled.answered.toFixed()}, granted after ${sent.toFixed()}`,
      );
    }
  }

  /** Checks that the renewal of an active lease is not refused. */
  function checkRenewals(operation: Operation): void {
    const renewals = operation.ends.filter(
      ({ call, failure }) => call === "renew" && failure !== undefined && !isOpen(failure),
    );
    if (renewals.length === 0) return;
    const slots = createSteps(
      [...operation.leases.values()].flatMap((lease) => certainCharge(operation, lease, clock).slot),
    );
    for (const { sent, answered, failure } of renewals) {
      verdicts.expect(
        "a live lease can be renewed",
        slots.least(sent, answered) === 0,
        () =>
          `${operation.op} of ${operation.user}, sent ${sent.toFixed()}: ${failure?.code} ${failure?.reason} ${failure?.message}`,
      );
    }
  }

  /** An error that callers cannot act upon. Errors without details come from the client's own broken connection. */
  function checkError(line: Line): void {
    const failures =
      line.call === "acquire" ? line.items.map(({ failure }) => failure) : "failure" in line ? [line.failure] : [];
    for (const failure of failures) {
      if (failure === undefined) continue;
      const isInternal = failure.reason === "INTERNAL" || /^5(?!03|04)\d\d$/.test(failure.code);
      verdicts.expect("no internal error", !isInternal, () => `${line.call}: ${failure.code} ${failure.message}`);
    }
  }
}
