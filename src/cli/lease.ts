import { durationMs, timestampDate } from "@bufbuild/protobuf/wkt";
import { Lease_State, QuotaService } from "#gen/tollgate/v1/lease_pb.js";
import { Method_Group, Service_Name } from "#gen/tollgate/v1/tracedata_pb.js";
import type { CommandInput } from "./command.ts";
import { connect } from "./connection.ts";
import { exitCodes } from "./exit-codes.ts";

/** Prints a user's live leases and their holders. */
export async function listLeases(input: CommandInput): Promise<number> {
  const quotas = await connect(input, QuotaService);
  const [username = ""] = input.arguments;
  const { leases } = await quotas.listLeases({ username }, { signal: input.signal });
  const rows = leases.map(({ lease, holder, age, tracecode }) => ({
    lease: lease?.leaseId,
    service: lease && Service_Name[lease.service],
    method: lease && Method_Group[lease.methodGroup],
    points: lease?.points,
    holder,
    "age s": age && Math.floor(durationMs(age) / 1000),
    expires: lease?.expireTime && timestampDate(lease.expireTime).toISOString(),
    tracecode,
  }));
  input.output.rows(rows);
  return exitCodes.fine;
}

/** Frees the slot and the points of a lease, as an administrator. */
export async function forceReleaseLease(input: CommandInput): Promise<number> {
  const quotas = await connect(input, QuotaService);
  const [leaseId = ""] = input.arguments;
  const { lease } = await quotas.forceReleaseLease({ leaseId }, { signal: input.signal });
  const state = lease && Lease_State[lease.state];
  input.output.value({ lease: leaseId, state }, `${leaseId} is ${state?.toLowerCase()}`);
  return exitCodes.fine;
}
