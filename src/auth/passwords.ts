import { hash, verify } from "@node-rs/argon2";
import pLimit from "p-limit";
import { unavailable } from "../core/errors.ts";

export interface Passwords {
  /** The argon2id hash to store. */
  hash(password: string): Promise<string>;
  /**
   * Whether the password is the one of the hash. Takes the same time without a hash (an unknown name, a user without
   * a password), so that the time of an answer does not tell which names exist.
   */
  verify(password: string, passwordHash: string | null | undefined): Promise<boolean>;
}

/** argon2id (the library's default), 19 MiB, 2 passes, 1 lane: OWASP Password Storage Cheat Sheet. */
const cost = { memoryCost: 19_456, timeCost: 2, parallelism: 1 };

/**
 * @param concurrency how many hashes are computed at once: a flood of logins must leave processor time to the rest
 * @param queue how many more may wait; the next one is UNAVAILABLE
 */
export async function createPasswords({ concurrency = 2, queue = 64 } = {}): Promise<Passwords> {
  const limit = pLimit(concurrency);
  const nobody = await hash("no user has this password", cost);

  function bounded<T>(work: () => Promise<T>): Promise<T> {
    if (limit.pendingCount >= queue) throw unavailable("too many logins at once", 1000);
    return limit(work);
  }

  return {
    hash: async (password) => bounded(() => hash(password, cost)),
    verify: async (password, passwordHash) => {
      const matches = await bounded(() => verify(passwordHash ?? nobody, password));
      return matches && typeof passwordHash === "string";
    },
  };
}
