import type { ReadAuditRequest } from "#gen/tollgate/v1/audit_pb.js";
import { dayMicros, hourMicros, type Micros, microsOf } from "../shared/calendar.ts";
import { invalid } from "../shared/errors.ts";
import { type Principal, type Scope, scopeOf } from "../shared/principal.ts";

/** Which actions a list is about. */
export interface ActionFilter {
  /** `to` is excluded. */
  readonly from: Micros;
  readonly to: Micros;
  /** What holds of the columns of the same names: of every action that is selected. */
  readonly user: { readonly username?: string; readonly user_id?: number };
  /** The company whose partners see the action: the caller's, where the caller is one of them. */
  readonly visibleTo?: string;
  /** The company of the user who did it. */
  readonly company?: string;
  readonly method: { readonly service?: number; readonly method_group?: number; readonly operation?: string };
  /** Number of Outcome.Name, or every other one than SUCCESS. */
  readonly outcome?: number | "not success";
}

/** The company to which an action is visible that administrators alone see. */
export const administratorsOnly = "";

/** Everything that a caller may see. */
export function filterByScope(principal: Principal): ActionFilter {
  return { from: 0, to: lastDay, ...scoped(principal), method: {} };
}

const lastDay = Date.UTC(9999, 11, 31) * 1000;

/** Without from: from the beginning of the caller's day; without to: up to now. */
export function actionFilterOf(request: ReadAuditRequest, principal: Principal, nowMs: number): ActionFilter {
  const { username, companyKey, serviceName: service, methodGroup, operationId: operation, outcome } = request;
  const offset = principal.timezone * hourMicros;
  const now = nowMs * 1000;
  const today = Math.floor((now + offset) / dayMicros) * dayMicros - offset;
  const from = request.from === undefined ? today : microsOf(request.from);
  const to = request.to === undefined ? now : microsOf(request.to);
  // An empty period, from equal to to, is a period.
  if (from > to) {
    if (request.to === undefined)
      throw invalid({ field: "from", message: "must not be after now, where to is absent" });
    const named = request.from === undefined ? "from, which is the beginning of today where it is absent" : "from";
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
      // Who has the name now did not do what another one did under it.
      return { user: { user_id: scope.userId, username: principal.username } };
  }
}
