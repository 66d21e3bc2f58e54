import { invalid } from "../../shared/errors.ts";
import type { Passwords } from "./passwords.ts";

/** A password that a user is given. */
export interface NewPassword {
  readonly username: string;
  readonly password: string;
  /** The request's field, for the error. */
  readonly field: string;
}

/**
 * The hash to store of a new password.
 * @throws INVALID_ARGUMENT when the policy refuses it
 */
export type HashNewPassword = (given: NewPassword) => Promise<string>;

/** How many of the common passwords are refused, the most common ones first. */
const commonCount = 10_000;

/**
 * @param policy "basic" takes what the contract takes; "strict" refuses common passwords and those that contain the
 * username, whatever the case
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

/** Loaded under the strict policy alone: the list takes a third of a second to unpack. */
async function readCommonPasswords(): Promise<ReadonlySet<string>> {
  const { dictionary } = await import("@zxcvbn-ts/language-common");
  return new Set(dictionary["passwords-common"].slice(0, commonCount));
}
