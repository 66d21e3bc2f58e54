import { hash, verify } from "@node-rs/argon2";
import pLimit from "p-limit";
import { unavailable } from "../../shared/errors.ts";

/** Passwords are compared by their characters, not by how a keyboard or a system writes them: as Unicode NFC. */
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
 * @param concurrency how many passwords are hashed for storage at once
 * @param queue how many more may wait; the next one is UNAVAILABLE. Verifying is bounded by the login's slots.
 */
export async function createPasswords({ concurrency = 1, queue = 64 } = {}): Promise<Passwords> {
  const limit = pLimit(concurrency);
  const noUsersHash = await hash("no user has this password", cost);

  return {
    hash: async (password) => {
      if (limit.pendingCount >= queue) throw unavailable("TOO_BUSY", "too many passwords are set at once", 1000);
      return limit(() => hash(password.normalize("NFC"), cost));
    },
    verify: async (password, passwordHash) => {
      const matches = await verify(passwordHash ?? noUsersHash, password.normalize("NFC"));
      return matches && typeof passwordHash === "string";
    },
  };
}
