import type { MessageInitShape } from "@bufbuild/protobuf";
import { Role_Name } from "#gen/tollgate/v1/access_pb.js";
import type { UserPatch, UserRequest, UserSchema } from "#gen/tollgate/v1/user_pb.js";
import { notNull } from "../../shared/field-mask.ts";
import { requirePresent } from "../../shared/handler.ts";
import { roleFromName } from "../../shared/principal.ts";
import { toStoredName } from "../../shared/stored-names.ts";
import type { ListedUser, NewUser, UserRow } from "./store.ts";

/** The requested state of a user. */
export type RequestedUser = Omit<UserRequest, "$typeName" | "$unknown">;

/**
 * Applies a patch to an existing user.
 * @param fields the fields that the patch changes. An absent or null password leaves the stored one.
 * @throws INVALID_REQUEST when a required field is set to null
 */
export function mergeUser(existing: UserRow, patch: UserPatch, fields: readonly string[]): RequestedUser {
  const changes = (field: string) => fields.includes(field);
  const text = (field: "name" | "email" | "phone") => (changes(field) ? patch[field] : (existing[field] ?? undefined));
  return {
    username: existing.username,
    password: changes("password") ? patch.password : undefined,
    name: text("name"),
    email: text("email"),
    phone: text("phone"),
    companyKey: changes("company_key") ? notNull("company_key", patch.companyKey) : existing.company_key,
    enabled: changes("enabled") ? notNull("enabled", patch.enabled) : existing.enabled,
    roles: changes("roles") ? patch.roles : toRoles(existing),
    timezone: changes("timezone") ? notNull("timezone", patch.timezone) : existing.timezone,
  };
}

/** Converts a requested user to its row. `passwordHash` is null without a new password. */
export function toUserRow(request: RequestedUser, passwordHash: string | null): NewUser {
  return {
    username: request.username,
    password_hash: passwordHash,
    name: request.name ?? null,
    email: request.email ?? null,
    phone: request.phone ?? null,
    company_key: request.companyKey,
    enabled: requirePresent(request.enabled),
    roles: request.roles.map((role) => toStoredName("role", Role_Name[role])),
    timezone: request.timezone,
  };
}

/** Converts a row to the user of an answer. */
export function toUserMessage(row: ListedUser): MessageInitShape<typeof UserSchema> {
  const { username, name, email, phone, company_key: companyKey, enabled, timezone } = row;
  const user: MessageInitShape<typeof UserSchema> = { username, companyKey, enabled, roles: toRoles(row), timezone };
  if (name !== null) user.name = name;
  if (email !== null) user.email = email;
  if (phone !== null) user.phone = phone;
  return user;
}

/** Converts the role names of a row. */
export function toRoles({ roles }: { readonly roles: string[] }): Role_Name[] {
  return roles.map((name) => roleFromName(name));
}
