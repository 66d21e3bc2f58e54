import { Role_Name } from "#gen/tollgate/v1/access_pb.js";
import { hasRole, type Principal, scopeOf } from "../../shared/principal.ts";
import type { Subject } from "../limits/subjects.ts";

/** BOT acts for users of every company, even together with a narrower role. */
export function seesEveryone(principal: Principal): boolean {
  return hasRole(principal, Role_Name.BOT) || scopeOf(principal).kind === "everything";
}

/** Whether a principal may see the usage and the leases of a user. */
export function maySee(principal: Principal, { userId, companyKey }: Subject): boolean {
  const scope = scopeOf(principal);
  return maySeeCompany(principal, companyKey) || (scope.kind === "self" && scope.userId === userId);
}

/** Whether a principal may see the usage of all users of a company. */
export function maySeeCompany(principal: Principal, companyKey: string): boolean {
  const scope = scopeOf(principal);
  return seesEveryone(principal) || (scope.kind === "company" && scope.companyKey === companyKey);
}
