import type { MessageInitShape } from "@bufbuild/protobuf";
import type { AuditActionSchema } from "#gen/tollgate/v1/audit_pb.js";
import { toTimestamp } from "../shared/calendar.ts";
import type { ActionRow } from "./store.ts";

/** @param hasData whether data of the action's user is stored for its tracecode */
export function toActionMessage(row: ActionRow, hasData: boolean) {
  return {
    username: row.username,
    companyKey: row.company_key,
    tracedata: {
      code: row.tracecode,
      client: `${row.company_key}_|_${row.username}`,
      server: row.server,
      service: row.service,
      operation: row.operation,
      time: toTimestamp(row.micros),
    },
    methodGroup: row.method_group,
    statistics: {
      ...(row.points !== null && { pointsCount: BigInt(row.points) }),
      ...(row.duration_ms !== null && { duration: toDuration(row.duration_ms) }),
    },
    ...(row.resource !== null && { resource: row.resource }),
    ...(row.address !== null && { address: row.address }),
    ...(row.times !== null && { count: row.times }),
    ...(row.outcome !== 0 && { outcome: row.outcome }),
    hasData,
  } satisfies MessageInitShape<typeof AuditActionSchema>;
}

/** Formats an ISO 8601 duration. Hours are the largest unit, since a day may not have 24. 754300 is PT12M34.3S. */
function toDuration(milliseconds: number): string {
  const hours = Math.floor(milliseconds / 3_600_000);
  const minutes = Math.floor(milliseconds / 60_000) % 60;
  const seconds = (milliseconds % 60_000) / 1000;
  const parts = [
    ...(hours > 0 ? [`${hours}H`] : []),
    ...(minutes > 0 ? [`${minutes}M`] : []),
    ...(seconds > 0 || milliseconds === 0 ? [`${seconds}S`] : []),
  ];
  return `PT${parts.join("")}`;
}
