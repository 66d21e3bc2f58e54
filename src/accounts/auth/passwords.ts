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

/** What argon2id (the library's default) takes for one hash. */
export interface HashCost {
  /** KiB. */
  readonly memoryCost: number;
  /** Passes over the memory. */
  readonly timeCost: number;
  readonly parallelism: number;
}

/** 19 MiB, 2 passes, 1 lane: OWASP Password Storage Cheat Sheet. */
const owaspCost: HashCost = { memoryCost: 19_456, timeCost: 2, parallelism: 1 };

/**
 * @param cost of new hashes. A stored hash is verified at the cost that it names.
 * @param concurrency how many passwords are hashed for storage at once
 * @param queue how many more may wait; the next one is UNAVAILABLE. Verifying is bounded by the login's slots.
 */
export async function createPasswords({ cost = owaspCost, concurrency = 1, queue = 64 } = {}): Promise<Passwords> {
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
