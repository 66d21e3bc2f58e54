/**
 * Enumeration names that tables keep from release 1.0. Its servers run beside this one during an upgrade, so this release
 * reads both names and writes the stored one. A contract migration of a later release renames them.
 */
const storedNames = {
  role: new Map([["BOT", "SERVICE"]]),
  service: new Map([
    ["STOCK", "REGISTRY"],
    ["CLUSTER", "CLUSTERING"],
    ["LONGHAUL", "DELIVERY"],
    ["CARGOTIMETABLE", "FIELDSERVICE"],
  ]),
  methodGroup: new Map([["REFINE", "CLUSTER"]]),
} as const;

type StoredEnumeration = keyof typeof storedNames;

/** Returns the name that the tables keep for a name of the contract. */
export function toStoredName(enumeration: StoredEnumeration, name: string): string {
  return storedNames[enumeration].get(name) ?? name;
}

/** Returns the name of the contract for a name in a table. */
export function fromStoredName(enumeration: StoredEnumeration, stored: string): string {
  for (const [name, kept] of storedNames[enumeration]) if (kept === stored) return name;
  return stored;
}
