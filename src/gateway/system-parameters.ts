import { badField } from "./errors.ts";

/**
 * Checks the query's system parameters, whose names begin with "$": generated Google clients send them. Each is accepted
 * only with the value that describes what the gateway does anyway.
 * @param isFile whether the operation answers with a file instead of JSON
 * @throws INVALID_ARGUMENT that names the parameter
 */
export function createSystemParameters(isFile: boolean): (name: string, text: string) => void {
  const accepted = new Map([
    ["$alt", isFile ? "media" : "json"],
    ["$prettyPrint", "false"],
    ["$fields", "*"],
  ]);
  return (name, text) => {
    const only = accepted.get(name);
    if (only === undefined) throw badField(name, "is no query parameter of this operation");
    if (text !== only) throw badField(name, `must be ${only}`);
  };
}
