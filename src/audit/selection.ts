import type { ReadAuditRequest } from "#gen/tollgate/v1/audit_pb.js";
import { dayMicros, hourMicros, type Micros, microsOf } from "../shared/calendar.ts";
import { invalid } from "../shared/errors.ts";
import { type Principal, type Scope, scopeOf } from "../shared/principal.ts";

/** Selects the actions of a list. */
export interface ActionFilter {
  /** `to` is excluded. */
  readonly from: Micros;
  readonly to: Micros;
  /** Required values of the columns with these names. */
  readonly user: { readonly username?: string; readonly user_id?: number };
  /** Only actions that partners of this company see. Set when the caller is a partner. */
  readonly visibleTo?: string;
  /** The company of the acting user. */
  readonly company?: string;
  readonly method: { readonly service?: number; readonly method_group?: number; readonly operation?: string };
  /** Number of Outcome.Name, or all except SUCCESS. */
  readonly outcome?: number | "not success";
}

/** The visible company of actions that only administrators see. */
export const administratorsOnly = "";

/** Selects all actions that a caller may see. */
export function filterByScope(principal: Principal): ActionFilter {
  return { from: 0, to: lastDay, ...scoped(principal), method: {} };
}

const lastDay = Date.UTC(9999, 11, 31) * 1000;

/**
 * Returns the selection of a request. `from` defaults to the start of today in the caller's time zone, `to` to now.
 * @throws INVALID_REQUEST when `from` is after `to`, defaults included
 */
export function actionFilterOf(request: ReadAuditRequest, principal: Principal, nowMs: number): ActionFilter {
  const { username, companyKey, serviceName: service, methodGroup, operationId: operation, outcome } = request;
  const offset = principal.timezone * hourMicros;
  const now = nowMs * 1000;
  const today = Math.floor((now + offset) / dayMicros) * dayMicros - offset;
  const from = request.from === undefined ? today : microsOf(request.from);
  const to = request.to === undefined ? now : microsOf(request.to);
  // The period may be empty: from may equal to.
  if (from > to) {
    if (request.to === undefined) throw invalid({ field: "from", message: "must not be after now when to is absent" });
    const named = request.from === undefined ? "from, which is the start of today when absent" : "from";
    throw invalid({ field: "to", message: `must not be before ${named}` });
  }
  const { user, ...scope } = scoped(principal);
  return {
    from: Math.max(0, from),
    to: Math.min(to, lastDay),
    user: { ...user, ...(username !== undefined && { username }) },
    ...scope,
    ...(companyKey !== undefined && { company: companyKey }),
    method: {
      ...(service !== undefined && { service }),
      ...(methodGroup !== undefined && { method_group: methodGroup }),
      ...(operation !== undefined && { operation }),
    },
    ...(outcome !== undefined && { outcome }),
  };
}

function scoped(principal: Principal): Pick<ActionFilter, "user" | "visibleTo"> {
  const scope: Scope = scopeOf(principal);
  switch (scope.kind) {
    case "everything":
      return { user: {} };
    case "company":
      return { user: {}, visibleTo: scope.companyKey };
    case "self":
      // By id and name: an earlier user may have had this name, and this user another one.
      return { user: { user_id: scope.userId, username: principal.username } };
  }
}
