import { Code, ConnectError } from "@connectrpc/connect";
import type { Database } from "../../postgres/database.ts";
import { failedLoginEvent, lockoutEvent, type SecurityLog } from "../../shared/security-log.ts";
import { networkOf } from "./caller-network.ts";
import type { LoginSlots } from "./login-slots.ts";
import type { PacedRefusals } from "./paced-refusals.ts";
import type { Passwords } from "./passwords.ts";
import { type Account, findAccountByUsername } from "./store.ts";
import type { LoginThrottle } from "./throttle.ts";

export interface LoginTry {
  readonly username: string;
  readonly password: string;
  /** The caller's network address. */
  readonly address: string;
  /** UUID of the call. */
  readonly tracecode: string;
  /** Aborted when the caller is gone. */
  readonly signal: AbortSignal;
}

/**
 * Checks a password. Undefined when the name or the password is wrong or the user may not log in; the time does not tell
 * which.
 * @throws RESOURCE_EXHAUSTED after too many failed logins; UNAVAILABLE when too many log in at once
 */
export type Login = (attempt: LoginTry) => Promise<Account | undefined>;

export interface LoginOptions {
  /** Connections that the ledger and authenticated calls do not use. */
  readonly database: Database;
  readonly passwords: Passwords;
  readonly throttle: LoginThrottle;
  readonly slots: LoginSlots;
  readonly refusals: PacedRefusals;
  /** Hears of failed logins and of lockouts. Only a login that succeeds is for the caller to record. */
  readonly securityLog: SecurityLog;
}

/**
 * A login is refused in memory first; one that is not waits for a slot, and does everything that costs something in it:
 * a read, a hash, and at most one write.
 */
export function createLogin({ database, passwords, throttle, slots, refusals, securityLog }: LoginOptions): Login {
  async function check(attempt: LoginTry): Promise<Account | undefined> {
    // The limit may have been reached while this login waited.
    refuseBlocked(attempt);
    const { username, password, address } = attempt;
    const account = await findAccountByUsername(database, username);
    const isRight = await passwords.verify(password, account?.passwordHash);
    try {
      if (isRight && account?.enabled === true) {
        await throttle.succeed(username, address);
        return account;
      }
      await throttle.fail(username, address);
    } catch (error) {
      const isLockout = error instanceof ConnectError && error.code === Code.ResourceExhausted;
      if (isLockout) record(lockoutEvent, attempt, account);
      throw error;
    }
    record(failedLoginEvent, attempt, account);
    const isLockedNow = throttle.refusalOf(username, address) !== undefined;
    if (isLockedNow) record(lockoutEvent, attempt, account);
    return undefined;
  }

  function refuseBlocked(attempt: LoginTry): void {
    const refusal = throttle.refusalOf(attempt.username, attempt.address);
    if (refusal === undefined) return;
    // Finding the user would take a query: these are counted by their address alone.
    record(lockoutEvent, attempt, undefined);
    throw refusal;
  }

  /** The name that was tried is left out where no user has it: people type passwords into the wrong field. */
  function record(event: typeof lockoutEvent, { address, tracecode }: LoginTry, user: Account | undefined): void {
    securityLog.record({ ...event, tracecode, user, address: networkOf(address) });
  }

  return async (attempt) => {
    const { address, signal } = attempt;
    let isChecked = false;
    try {
      refuseBlocked(attempt);
      return await slots.run({ network: networkOf(address), signal }, () => {
        isChecked = true;
        return check(attempt);
      });
    } catch (error) {
      if (!isChecked) await refusals.wait(signal);
      throw error;
    }
  };
}
