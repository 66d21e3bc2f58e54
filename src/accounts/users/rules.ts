import { Role_Name } from "#gen/tollgate/v1/access_pb.js";
import { conflict, forbidden, invalid } from "../../shared/errors.ts";
import { hasRole, type Principal } from "../../shared/principal.ts";

/** Only an ADMIN grants these roles and changes their users: both roles see data that no partner may see. */
const reserved: readonly Role_Name[] = [Role_Name.ADMIN, Role_Name.BOT];

/** The fields of a user that the rules check. */
export interface UserRights {
  readonly companyKey: string;
  readonly roles: readonly Role_Name[];
  readonly enabled?: boolean | undefined;
}

/**
 * Checks that the caller may give a user this company and these roles.
 * @throws INVALID_REQUEST when a partner names another company
 * @throws ROLE_RESERVED when a partner grants a reserved role
 */
export function checkGrantedRights(principal: Principal, requested: UserRights): void {
  if (hasRole(principal, Role_Name.ADMIN)) return;
  // The message is the one of a missing company, so that names of other companies do not leak.
  if (requested.companyKey !== principal.companyKey) throw noSuchCompany(requested.companyKey);
  if (isReserved(requested.roles)) throw forbidden("ROLE_RESERVED", "only an ADMIN may grant the roles ADMIN and BOT");
}

/**
 * Checks that the caller may change or remove a user with these roles.
 * @throws ROLE_RESERVED when a partner changes a user with a reserved role
 */
export function checkExistingRights(principal: Principal, existing: { readonly roles: readonly Role_Name[] }): void {
  if (hasRole(principal, Role_Name.ADMIN)) return;
  if (isReserved(existing.roles))
    throw forbidden("ROLE_RESERVED", "only an ADMIN may change a user with the role ADMIN or BOT");
}

/**
 * Checks that administrators do not lock themselves out.
 * @param requested undefined for a removal
 * @throws OWN_ACCOUNT when the caller removes or disables its own user, or takes ADMIN from it
 */
export function checkOwnRights(principal: Principal, userId: number, requested: UserRights | undefined): void {
  if (principal.userId !== userId) return;
  const staysAdmin = !hasRole(principal, Role_Name.ADMIN) || requested?.roles.includes(Role_Name.ADMIN) === true;
  if (requested?.enabled === true && staysAdmin) return;
  throw conflict("OWN_ACCOUNT", "you cannot remove or disable your own user, nor take the role ADMIN from it");
}

/** 400: the company does not exist, or the caller may not use it. */
export function noSuchCompany(companyKey: string) {
  return invalid({ field: "company_key", message: `must be the key of an existing company: ${companyKey}` });
}

function isReserved(roles: readonly Role_Name[]): boolean {
  return roles.some((role) => reserved.includes(role));
}
