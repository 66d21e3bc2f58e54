import { hash, verify } from "@node-rs/argon2";
import pLimit from "p-limit";
import { unavailable } from "../../shared/errors.ts";

/** Hashes and verifies passwords. They are normalized to Unicode NFC: keyboards and systems encode characters differently. */
export interface Passwords {
  /**
   * Returns the argon2id hash to store.
   * @throws TOO_BUSY when too many passwords wait to be hashed
   */
  hash(password: string): Promise<string>;
  /**
   * Returns whether the password matches the hash. Takes the same time without a hash (unknown username, user without a
   * password), so that the response time does not reveal which usernames exist.
   */
  verify(password: string, passwordHash: string | null | undefined): Promise<boolean>;
}

/** The cost of one hash with argon2id, the default of the library. */
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
 * Creates the functions that hash and verify passwords.
 * @param cost of new hashes. A stored hash is verified at the cost that it names.
 * @param concurrency number of passwords hashed at once. Login slots bound verification.
 * @param queue maximum number of passwords that wait to be hashed
 */
export async function createPasswords({ cost = owaspCost, concurrency = 1, queue = 64 } = {}): Promise<Passwords> {
  const limit = pLimit(concurrency);
  const dummyHash = await hash("no user has this password", cost);

  return {
    hash: async (password) => {
      if (limit.pendingCount >= queue) throw unavailable("TOO_BUSY", "too many passwords are set at once", 1000);
      return limit(() => hash(password.normalize("NFC"), cost));
    },
    verify: async (password, passwordHash) => {
      const matches = await verify(passwordHash ?? dummyHash, password.normalize("NFC"));
      return matches && typeof passwordHash === "string";
    },
  };
}
