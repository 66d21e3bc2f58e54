import { setTimeout as wait } from "node:timers/promises";
import { type Timestamp, timestampDate, timestampFromDate } from "@bufbuild/protobuf/wkt";
import { type AuditAction, AuditService } from "#gen/tollgate/v1/audit_pb.js";
import { Outcome_Name } from "#gen/tollgate/v1/lease_pb.js";
import { Sort_Direction } from "#gen/tollgate/v1/list_pb.js";
import { Service_Name } from "#gen/tollgate/v1/tracedata_pb.js";
import { type CommandInput, numberOption, optionOf, UsageError } from "./command.ts";
import { connect } from "./connection.ts";
import { exitCodes } from "./exit-codes.ts";

const followEveryMs = 2000;
/** Actions are written late: a settlement some milliseconds, a read of data up to some seconds after it happened. */
const lateMs = 30_000;

/** Prints the last actions, oldest first. With --follow, prints new ones until it is interrupted. */
export async function showAudit(input: CommandInput): Promise<number> {
  const audit = await connect(input, AuditService);
  const [username, companyKey, operationId] = ["username", "company", "operation"].map((name) => optionOf(input, name));
  const limit = numberOption(input, "limit", 1) ?? 100;
  const filter = {
    ...(username !== undefined && { username }),
    ...(companyKey !== undefined && { companyKey }),
    ...(operationId !== undefined && { operationId }),
  };
  const from = timeOption(input, "from");
  const to = timeOption(input, "to");
  const read = async (period: { from?: Timestamp; to?: Timestamp }, most: number) => {
    const found: AuditAction[] = [];
    const request = { ...filter, ...period, limit: most, sortField: "time", sortDirection: Sort_Direction.DESC };
    for await (const page of audit.readAudit(request, { signal: input.signal })) found.push(...page.actions);
    return found.toReversed();
  };
  const readRecent = () => read({ from: timestampFromDate(new Date(Date.now() - lateMs)) }, 10_000);
  const isFollowing = input.options["follow"] === true;
  try {
    let recent = isFollowing ? await readRecent() : [];
    const last = await read({ ...(from && { from }), ...(to && { to }) }, limit);
    input.output.rows(last.map(toRow));
    if (!isFollowing) return exitCodes.fine;
    recent.push(...last);
    for (;;) {
      const known = new Set(recent.map(keyOf));
      await wait(followEveryMs, undefined, { signal: input.signal });
      recent = await readRecent();
      input.output.rows(recent.filter((action) => !known.has(keyOf(action))).map(toRow));
    }
  } catch (error) {
    if (!isFollowing || !input.signal.aborted) throw error;
    return exitCodes.fine;
  }
}

function timeOption(input: CommandInput, name: string): Timestamp | undefined {
  const text = optionOf(input, name);
  if (text === undefined) return undefined;
  const date = new Date(text);
  if (Number.isNaN(date.getTime())) throw new UsageError(`--${name} must be a time such as 2026-11-25T09:30:00Z`);
  return timestampFromDate(date);
}

function keyOf({ tracedata, username, resource }: AuditAction): string {
  return [
    tracedata?.time?.seconds,
    tracedata?.time?.nanos,
    tracedata?.code,
    tracedata?.operation,
    username,
    resource,
  ].join();
}

function toRow({ username, companyKey, tracedata, statistics, resource, outcome }: AuditAction) {
  return {
    time: tracedata?.time && timestampDate(tracedata.time).toISOString(),
    username,
    company: companyKey,
    service: tracedata && Service_Name[tracedata.service],
    operation: tracedata?.operation,
    outcome: outcome && Outcome_Name[outcome],
    points: statistics?.pointsCount === undefined ? undefined : Number(statistics.pointsCount),
    resource,
    tracecode: tracedata?.code,
  };
}
