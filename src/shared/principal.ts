import { Role_Name } from "#gen/tollgate/v1/access_pb.js";
import { fromStoredName } from "./stored-names.ts";

/** The authenticated caller. */
export interface Principal {
  readonly userId: number;
  readonly username: string;
  readonly companyKey: string;
  readonly roles: readonly Role_Name[];
  /** Hours from UTC. */
  readonly timezone: number;
}

/** The companies and users that a principal may see: the widest scope of its roles. Stores add it to every query. */
export type Scope =
  | { readonly kind: "everything" }
  | { readonly kind: "company"; readonly companyKey: string }
  | { readonly kind: "self"; readonly userId: number };

/** Returns the widest scope of the roles of a principal. */
export function scopeOf(principal: Principal): Scope {
  if (hasRole(principal, Role_Name.ADMIN)) return { kind: "everything" };
  if (hasRole(principal, Role_Name.PARTNER)) return { kind: "company", companyKey: principal.companyKey };
  return { kind: "self", userId: principal.userId };
}

/** Whether a principal has a role. */
export function hasRole(principal: Principal, role: Role_Name): boolean {
  return principal.roles.includes(role);
}

/** Parses a role name from the database. */
export function roleFromName(name: string): Role_Name {
  const role = Role_Name[fromStoredName("role", name) as keyof typeof Role_Name];
  if (role === undefined) throw new Error(`the database holds an unknown role: ${name}`);
  return role;
}
