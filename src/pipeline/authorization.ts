import type { DescMethod } from "@bufbuild/protobuf";
import { getOption, hasOption } from "@bufbuild/protobuf";
import { access } from "#gen/tollgate/v1/access_pb.js";
import { forbidden } from "../shared/errors.ts";
import type { Principal } from "../shared/principal.ts";

interface Declaration {
  /** Whether the RPC needs no token. */
  readonly isPublic: boolean;
  /** Whether the RPC is an administrative change that the audit log records. */
  readonly isAudited: boolean;
  /** Whether a principal may call the RPC. */
  readonly allows: (principal: Principal) => boolean;
}

// Reading an option from a descriptor costs more than the rest of the authorization.
const declarations = new WeakMap<DescMethod, Declaration>();

function declarationOf(method: DescMethod): Declaration {
  const known = declarations.get(method);
  if (known !== undefined) return known;
  const { public: isPublicRpc, audited, signedIn, roles } = getOption(method, access);
  const isDeclared = hasOption(method, access);
  const declaration: Declaration = {
    isPublic: isPublicRpc,
    isAudited: audited,
    // Deny by default: an RPC that declares nothing is refused to every caller.
    allows: (principal) => isDeclared && (signedIn || roles.some((role) => principal.roles.includes(role))),
  };
  declarations.set(method, declaration);
  return declaration;
}

/** Whether an RPC needs no token. */
export function isPublic(method: DescMethod): boolean {
  return declarationOf(method).isPublic;
}

/** Whether an RPC is an administrative change that the audit log records. */
export function isAudited(method: DescMethod): boolean {
  return declarationOf(method).isAudited;
}

/** @throws ROLE_REQUIRED when the RPC's declaration does not allow the principal, and for an RPC that declares nothing */
export function authorize(method: DescMethod, principal: Principal): void {
  if (!declarationOf(method).allows(principal))
    throw forbidden("ROLE_REQUIRED", "your roles do not allow this operation");
}
