import type { MessageInitShape } from "@bufbuild/protobuf";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { type HeldLeaseSchema, Lease_State, type Lease as LeaseMessage } from "#gen/tollgate/v1/lease_pb.js";
import { toTimestamp } from "../../shared/calendar.ts";
import type { Lease, LeaseState, Meter } from "../counters/engine.ts";
import { parseHolder } from "../ledger/entry.ts";
import type { LeaseIds } from "../ledger/lease-id.ts";

export interface LeaseView {
  readonly meter: Meter;
  readonly username: string;
  readonly lease: Lease;
  /** The lifetime that a renewal gives. Undefined when the answer has no renew interval. */
  readonly ttlMs?: number;
  readonly degraded?: boolean;
}

/** Makes the whole message, which create() leaves as it is: a batch answers with hundreds of them. */
export function toLeaseMessage(
  leaseIds: LeaseIds,
  { meter, username, lease, ttlMs, degraded = false }: LeaseView,
): LeaseMessage {
  const { service, methodGroup } = meter;
  return {
    $typeName: "tollgate.v1.Lease",
    leaseId: leaseIds.toId(meter, lease),
    operationId: lease.operationId,
    username,
    service,
    methodGroup,
    points: lease.points,
    state: states[lease.state],
    grantedTime: toTimestamp(lease.grantedMs * 1000),
    expireTime: toTimestamp(lease.expireMs * 1000),
    // Two renewals may be lost: the third still finds the lease live.
    renewInterval: ttlMs === undefined ? undefined : durationFromMs(Math.floor(ttlMs / 3)),
    settledPoints: lease.settledPoints,
    degradedOpen: degraded,
  };
}

/** Makes the message of a live lease with its holder. `nowMs` is the time of the counters. */
export function toHeldLease(leaseIds: LeaseIds, view: LeaseView, nowMs: number) {
  const { tracecode, username: holder } = parseHolder(view.lease.holder);
  const age = durationFromMs(Math.max(0, nowMs - view.lease.grantedMs));
  return { lease: toLeaseMessage(leaseIds, view), tracecode, holder, age } satisfies MessageInitShape<
    typeof HeldLeaseSchema
  >;
}

const states: Readonly<Record<LeaseState, Lease_State>> = {
  active: Lease_State.ACTIVE,
  expired: Lease_State.EXPIRED,
  released: Lease_State.RELEASED,
  settled: Lease_State.SETTLED,
};
