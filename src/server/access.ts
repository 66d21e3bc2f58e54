import type { DescMethod } from "@bufbuild/protobuf";
import { getOption, hasOption } from "@bufbuild/protobuf";
import { access } from "#gen/tollgate/v1/access_pb.js";
import { forbidden } from "../core/errors.ts";
import type { Principal } from "../core/principal.ts";

/** Whether an RPC is for everybody, without a token. */
export function isPublic(method: DescMethod): boolean {
  return getOption(method, access).public;
}

/** Whether an RPC is an administrative change that the audit log keeps. */
export function isAudited(method: DescMethod): boolean {
  return getOption(method, access).audited;
}

/** Refuses a principal that the RPC's declaration does not name. An RPC that declares nothing is refused to everybody. */
export function authorise(method: DescMethod, principal: Principal): void {
  const { signedIn, roles } = getOption(method, access);
  const allowed = hasOption(method, access) && (signedIn || roles.some((role) => principal.roles.includes(role)));
  if (!allowed) throw forbidden("your roles do not allow this operation");
}
