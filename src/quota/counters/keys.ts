import type { Meter } from "./engine.ts";

/** The two keys of a meter. The braces keep all meters of a company in one slot of a Cluster. */
export function keysOf({ companyKey, userId, service, methodGroup }: Meter): [state: string, leases: string] {
  const name = `tollgate:{${companyKey}}:${userId}:${service}:${methodGroup}`;
  return [`${name}:state`, `${name}:leases`];
}
