import type { DescMethod } from "@bufbuild/protobuf";
import { getOption, hasOption } from "@bufbuild/protobuf";
import { access } from "#gen/tollgate/v1/access_pb.js";
import { forbidden } from "../shared/errors.ts";
import type { Principal } from "../shared/principal.ts";

interface Declaration {
  /** Whether the RPC is for everybody, without a token. */
  readonly isPublic: boolean;
  /** Whether it is an administrative change that the audit log keeps. */
  readonly isAudited: boolean;
  /** Whether a principal may call it. */
  readonly allows: (principal: Principal) => boolean;
}

// Reading an option out of a descriptor costs more than the rest of an authorisation.
const declarations = new WeakMap<DescMethod, Declaration>();

function declarationOf(method: DescMethod): Declaration {
  const known = declarations.get(method);
  if (known !== undefined) return known;
  const { public: isForAll, audited, signedIn, roles } = getOption(method, access);
  const isDeclared = hasOption(method, access);
  const declaration: Declaration = {
    isPublic: isForAll,
    isAudited: audited,
    // An RPC that declares nothing is refused to everybody.
    allows: (principal) => isDeclared && (signedIn || roles.some((role) => principal.roles.includes(role))),
  };
  declarations.set(method, declaration);
  return declaration;
}

/** Whether an RPC is for everybody, without a token. */
export function isPublic(method: DescMethod): boolean {
  return declarationOf(method).isPublic;
}

/** Whether an RPC is an administrative change that the audit log keeps. */
export function isAudited(method: DescMethod): boolean {
  return declarationOf(method).isAudited;
}

/** Refuses a principal that the RPC's declaration does not name. An RPC that declares nothing is refused to everybody. */
export function authorize(method: DescMethod, principal: Principal): void {
  if (!declarationOf(method).allows(principal))
    throw forbidden("ROLE_REQUIRED", "your roles do not allow this operation");
}
