import { Role_Name } from "#gen/tollgate/v1/access_pb.js";
import { conflict, forbidden, invalid } from "../../shared/errors.ts";
import { hasRole, type Principal } from "../../shared/principal.ts";

/** Roles that only an ADMIN grants, and whose users only an ADMIN touches: both see what no partner may. */
const reserved: readonly Role_Name[] = [Role_Name.ADMIN, Role_Name.BOT];

/** What of a user the rules look at. */
export interface UserRights {
  readonly companyKey: string;
  readonly roles: readonly Role_Name[];
  readonly enabled?: boolean | undefined;
}

/** Refuses the standing that a partner must not give a user. */
export function checkGrantedRights(principal: Principal, wanted: UserRights): void {
  if (hasRole(principal, Role_Name.ADMIN)) return;
  // The same words as for a company that does not exist: names of other companies do not leak.
  if (wanted.companyKey !== principal.companyKey) throw noSuchCompany(wanted.companyKey);
  if (isReserved(wanted.roles)) throw forbidden("ROLE_RESERVED", "only an ADMIN may grant the roles ADMIN and BOT");
}

/** Refuses a partner who changes or removes a user of a reserved role. */
export function checkExistingRights(principal: Principal, existing: { readonly roles: readonly Role_Name[] }): void {
  if (hasRole(principal, Role_Name.ADMIN)) return;
  if (isReserved(existing.roles))
    throw forbidden("ROLE_RESERVED", "only an ADMIN may change a user with the role ADMIN or BOT");
}

/** Refuses an administrator who would lock himself out. */
export function checkOwnRights(principal: Principal, userId: number, wanted: UserRights | undefined): void {
  if (principal.userId !== userId) return;
  const staysAdmin = !hasRole(principal, Role_Name.ADMIN) || wanted?.roles.includes(Role_Name.ADMIN) === true;
  if (wanted?.enabled === true && staysAdmin) return;
  throw conflict("OWN_ACCOUNT", "you cannot remove or disable your own user, nor take the role ADMIN from it");
}

export function noSuchCompany(companyKey: string) {
  return invalid({ field: "company_key", message: `no such company: ${companyKey}` });
}

function isReserved(roles: readonly Role_Name[]): boolean {
  return roles.some((role) => reserved.includes(role));
}
