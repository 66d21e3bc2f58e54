import { Outcome_Name } from "#gen/tollgate/v1/lease_pb.js";
import type { Principal } from "./principal.ts";

/** Something that matters for security and is no change of its own: a login, or a read of another user's data. */
export interface SecurityEvent {
  readonly operation: string;
  /** Number of Outcome.Name. */
  readonly outcome: number;
  /** UUID of the call. */
  readonly tracecode: string;
  /** The user who read or logged in. Undefined for a name that no user has. */
  readonly user: Pick<Principal, "userId" | "username" | "companyKey"> | undefined;
  /** The network address of a login. */
  readonly address?: string;
  /** The resource that was read. */
  readonly read?: { readonly username?: string | undefined; readonly companyKey?: string | undefined };
}

/** Counts security events in memory and writes them to the audit log later. */
export interface SecurityLog {
  /** Waits for nothing and never fails. */
  record(event: SecurityEvent): void;
}

export const loginEvent = { operation: "login", outcome: Outcome_Name.SUCCESS };
export const failedLoginEvent = { operation: "login", outcome: Outcome_Name.FAILURE };
/** The failed login that reaches a limit, and each login that is refused because of it, whatever its password. */
export const lockoutEvent = { operation: "login_lockout", outcome: Outcome_Name.FAILURE };
