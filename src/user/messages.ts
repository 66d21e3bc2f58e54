import type { MessageInitShape } from "@bufbuild/protobuf";
import { Role_Name } from "#gen/tollgate/v1/access_pb.js";
import type { UserRequest, UserSchema } from "#gen/tollgate/v1/user_pb.js";
import { present } from "../core/call.ts";
import { roleFromName } from "../core/principal.ts";
import type { NewUser, UserRow } from "./store.ts";

export function toRow(request: UserRequest, passwordHash: string | null): NewUser {
  return {
    username: request.username,
    password_hash: passwordHash,
    name: request.name ?? null,
    email: request.email ?? null,
    phone: request.phone ?? null,
    company_key: request.companyKey,
    enabled: present(request.enabled),
    roles: request.roles.map((role) => Role_Name[role]),
    timezone: request.timezone,
  };
}

export function toMessage(row: Omit<UserRow, "id">): MessageInitShape<typeof UserSchema> {
  return {
    username: row.username,
    ...(row.name === null ? {} : { name: row.name }),
    ...(row.email === null ? {} : { email: row.email }),
    ...(row.phone === null ? {} : { phone: row.phone }),
    companyKey: row.company_key,
    enabled: row.enabled,
    roles: toRoles(row),
    timezone: row.timezone,
  };
}

export function toRoles({ roles }: { readonly roles: string[] }): Role_Name[] {
  return roles.map((name) => roleFromName(name));
}
