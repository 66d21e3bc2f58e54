import type { Database } from "../storage/database.ts";
import type { LoginSlots } from "./login-slots.ts";
import { networkOf } from "./network.ts";
import type { PacedRefusals } from "./paced-refusals.ts";
import type { Passwords } from "./passwords.ts";
import { type Account, findByUsername } from "./store.ts";
import type { LoginThrottle } from "./throttle.ts";

export interface LoginTry {
  readonly username: string;
  readonly password: string;
  /** The caller's network address. */
  readonly address: string;
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
}

/**
 * A login is refused in memory first; one that is not waits for a slot, and does everything that costs something in it:
 * a read, a hash, and at most one write.
 */
export function createLogin({ database, passwords, throttle, slots, refusals }: LoginOptions): Login {
  async function check({ username, password, address }: LoginTry): Promise<Account | undefined> {
    // The limit may have been reached while this login waited.
    refuseBlocked(username, address);
    const account = await findByUsername(database, username);
    const isRight = await passwords.verify(password, account?.passwordHash);
    if (!isRight || account?.enabled !== true) {
      await throttle.fail(username, address);
      return undefined;
    }
    await throttle.succeed(username, address);
    return account;
  }

  function refuseBlocked(username: string, address: string): void {
    const refusal = throttle.refusalOf(username, address);
    if (refusal !== undefined) throw refusal;
  }

  return async (attempt) => {
    const { username, address, signal } = attempt;
    let isChecked = false;
    try {
      refuseBlocked(username, address);
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
