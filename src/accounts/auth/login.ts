import { Code, ConnectError } from "@connectrpc/connect";
import type { Database } from "../../postgres/database.ts";
import type { Call } from "../../shared/handler.ts";
import { failedLoginEvent, lockoutEvent, type SecurityLog } from "../../shared/security-log.ts";
import { networkOf } from "./caller-network.ts";
import type { LoginSlots } from "./login-slots.ts";
import type { PacedRefusals } from "./paced-refusals.ts";
import type { Passwords } from "./passwords.ts";
import { type Account, findAccountByUsername } from "./store.ts";
import type { LoginThrottle } from "./throttle.ts";

export interface LoginAttempt {
  readonly username: string;
  readonly password: string;
  /** The call that logs in. */
  readonly call: Pick<Call, "address" | "tracecode" | "signal" | "logFailedLogin">;
}

/**
 * Checks a password. Returns undefined when the username or the password is wrong, or the user is disabled. The response
 * time is the same in each case.
 * @throws LOGIN_LOCKED after too many failed logins
 * @throws TOO_BUSY when too many logins run at once
 */
export type Login = (attempt: LoginAttempt) => Promise<Account | undefined>;

export interface LoginOptions {
  /** Connections that the ledger and authenticated calls do not use. */
  readonly database: Database;
  readonly passwords: Passwords;
  readonly throttle: LoginThrottle;
  readonly slots: LoginSlots;
  readonly refusals: PacedRefusals;
  /** Receives failed logins and lockouts. The caller records successful logins. */
  readonly securityLog: SecurityLog;
}

/**
 * Creates the login check. A locked name or address is refused from memory. Any other login waits for a slot, in which
 * it reads the user, checks the hash, and writes at most once.
 */
export function createLogin({ database, passwords, throttle, slots, refusals, securityLog }: LoginOptions): Login {
  async function check(attempt: LoginAttempt): Promise<Account | undefined> {
    // The limit may have been reached while this login waited.
    refuseBlocked(attempt);
    const { username, password, call } = attempt;
    const { address } = call;
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
    if (account !== undefined) call.logFailedLogin(account.username);
    record(failedLoginEvent, attempt, account);
    const isLockedNow = throttle.refusalOf(username, address) !== undefined;
    if (isLockedNow) record(lockoutEvent, attempt, account);
    return undefined;
  }

  function refuseBlocked(attempt: LoginAttempt): void {
    const refusal = throttle.refusalOf(attempt.username, attempt.call.address);
    if (refusal === undefined) return;
    // Without the user: a lookup would cost a query for each refused login.
    record(lockoutEvent, attempt, undefined);
    throw refusal;
  }

  /** Does not record an unknown username: it may be a password in the wrong field. */
  function record(
    event: typeof lockoutEvent,
    { call: { address, tracecode } }: LoginAttempt,
    user: Account | undefined,
  ): void {
    securityLog.record({ ...event, tracecode, user, address: networkOf(address) });
  }

  return async (attempt) => {
    const { address, signal } = attempt.call;
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
