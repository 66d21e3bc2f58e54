import type { Meter } from "./engine.ts";

/**
 * Returns the two Redis keys of a meter. The hash tag in braces keeps all meters of a user in one slot of a Cluster,
 * whatever the user's company.
 * @param owner identifies the database of the ledger; holds no braces
 */
export function keysOf({ userId, service, methodGroup }: Meter, owner: string): [state: string, leases: string] {
  const name = `tollgate:${owner}:{${userId}}:${service}:${methodGroup}`;
  return [`${name}:state`, `${name}:leases`];
}
