import type { MessageInitShape } from "@bufbuild/protobuf";
import { durationFromMs, timestampFromMs } from "@bufbuild/protobuf/wkt";
import { type HeldLeaseSchema, Lease_State, type LeaseSchema } from "#gen/tollgate/v1/lease_pb.js";
import type { Lease, LeaseState, Meter } from "./counters/engine.ts";
import type { LeaseIds } from "./lease-id.ts";

export interface LeaseView {
  readonly meter: Meter;
  readonly username: string;
  readonly lease: Lease;
  /** How long a renewal makes it live; undefined where it is not told how often to renew. */
  readonly ttlMs?: number;
  readonly degraded?: boolean;
}

export function toLeaseMessage(leaseIds: LeaseIds, { meter, username, lease, ttlMs, degraded = false }: LeaseView) {
  const { service, methodGroup } = meter;
  return {
    leaseId: leaseIds.toId(meter, lease),
    operationId: lease.operationId,
    username,
    service,
    methodGroup,
    points: lease.points,
    state: states[lease.state],
    grantedTime: timestampFromMs(lease.grantedMs),
    expireTime: timestampFromMs(lease.expireMs),
    degradedOpen: degraded,
    // Two renewals may be lost, and the third still finds the lease.
    ...(ttlMs !== undefined && { renewInterval: durationFromMs(Math.floor(ttlMs / 3)) }),
    ...(lease.settledPoints !== undefined && { settledPoints: lease.settledPoints }),
  } satisfies MessageInitShape<typeof LeaseSchema>;
}

/** Who holds a slot, as the counters keep it beside the lease. */
export interface Holder {
  readonly tracecode: string;
  /** The user of the service that asked. */
  readonly username: string;
  /**
   * The company of the lease's user at the grant. A settlement charges it, on any server. Undefined where the grant is lost.
   */
  readonly companyKey?: string | undefined;
}

export function toHolderText({ tracecode, username, companyKey }: Holder): string {
  return [tracecode, username, ...(companyKey === undefined ? [] : [companyKey])].join(" ");
}

export function parseHolder(text: string): Holder {
  const [tracecode = "", username = "", companyKey] = text.split(" ", 3);
  return { tracecode, username, companyKey };
}

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
