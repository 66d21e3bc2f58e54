import { expect, test } from "vitest";
import { Role_Name } from "#gen/tollgate/v1/access_pb.js";
import { Method_Group, Service_Name } from "#gen/tollgate/v1/tracedata_pb.js";
import { fromStoredName, toStoredName } from "../../src/shared/stored-names.ts";

const enumerations = { role: Role_Name, service: Service_Name, methodGroup: Method_Group } as const;
const kinds = ["role", "service", "methodGroup"] as const;

test.each(kinds)("every name of %s is read as it was stored, and by its own name", (kind) => {
  const names = Object.values(enumerations[kind]).filter((name) => typeof name === "string");
  expect(names.length).toBeGreaterThan(3);
  for (const name of names) expect(fromStoredName(kind, toStoredName(kind, name))).toBe(name);
  // A later release stores the names of the contract.
  for (const name of names) expect(fromStoredName(kind, name)).toBe(name);
});

test("tables keep the names of release 1.0", () => {
  expect(toStoredName("role", "BOT")).toBe("SERVICE");
  expect(["STOCK", "CLUSTER", "LONGHAUL", "CARGOTIMETABLE"].map((name) => toStoredName("service", name))).toEqual([
    "REGISTRY",
    "CLUSTERING",
    "DELIVERY",
    "FIELDSERVICE",
  ]);
  expect(toStoredName("methodGroup", "REFINE")).toBe("CLUSTER");
});
