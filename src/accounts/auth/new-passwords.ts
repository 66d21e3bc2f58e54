import { invalid } from "../../shared/errors.ts";
import type { Passwords } from "./passwords.ts";

/** A new password of a user. */
export interface NewPassword {
  readonly username: string;
  readonly password: string;
  /** Path of the request's field, for the error. */
  readonly field: string;
}

/**
 * Returns the hash of a new password.
 * @throws INVALID_REQUEST when the password breaks the policy
 */
export type HashNewPassword = (given: NewPassword) => Promise<string>;

/** The strict policy refuses this many of the most common passwords. */
const commonCount = 10_000;

/**
 * Creates the function that checks and hashes new passwords.
 * @param policy "basic" accepts what the .proto accepts; "strict" also refuses common passwords and passwords that contain
 * the username, ignoring case
 */
export async function createNewPasswords(
  { hash }: Pick<Passwords, "hash">,
  policy: "basic" | "strict",
): Promise<HashNewPassword> {
  if (policy === "basic") return ({ password }) => hash(password);
  const common = await readCommonPasswords();
  return async ({ username, password, field }) => {
    const plain = password.normalize("NFC").toLowerCase();
    if (common.has(plain)) throw invalid({ field, message: "must not be one of the most common passwords" });
    if (plain.includes(username.toLowerCase())) throw invalid({ field, message: "must not contain the username" });
    return hash(password);
  };
}

/** Loaded only for the strict policy: unpacking the list takes a third of a second. */
async function readCommonPasswords(): Promise<ReadonlySet<string>> {
  const { dictionary } = await import("@zxcvbn-ts/language-common");
  return new Set(dictionary["passwords-common"].slice(0, commonCount));
}
