import type { Meter } from "./engine.ts";

/**
 * The two keys of a meter. The braces keep all meters of a user in one slot of a Cluster, whatever the user's company.
 * @param owner names the database of the ledger, without braces
 */
export function keysOf({ userId, service, methodGroup }: Meter, owner: string): [state: string, leases: string] {
  const name = `tollgate:${owner}:{${userId}}:${service}:${methodGroup}`;
  return [`${name}:state`, `${name}:leases`];
}
