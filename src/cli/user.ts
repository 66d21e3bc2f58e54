import { randomBytes } from "node:crypto";
import { text } from "node:stream/consumers";
import { Role_Name } from "#gen/tollgate/v1/access_pb.js";
import { UserService } from "#gen/tollgate/v1/user_pb.js";
import { type CommandInput, enumOption, numberOption, optionOf, requireOption } from "./command.ts";
import { connect } from "./connection.ts";
import { exitCodes } from "./exit-codes.ts";

/** The rows of one page: a table needs the width of all of them. */
const pageRows = 1000;

/** Prints the users. */
export async function listUsers(input: CommandInput): Promise<number> {
  const users = await connect(input, UserService);
  const companyKey = optionOf(input, "company");
  const filter = optionOf(input, "filter");
  const limit = numberOption(input, "limit", 1) ?? pageRows;
  const rows = [];
  const pages = users.readUsers(
    { limit, ...(companyKey !== undefined && { companyKey }), ...(filter !== undefined && { filter }) },
    { signal: input.signal },
  );
  for await (const page of pages) {
    for (const { username, companyKey: company, name, enabled, roles, timezone } of page.users) {
      rows.push({ username, company, name, enabled, roles: roles.map((role) => Role_Name[role]).join(" "), timezone });
    }
  }
  input.output.rows(rows);
  return exitCodes.fine;
}

/** Creates a user. Prints the password if it was made here. */
export async function createUser(input: CommandInput): Promise<number> {
  const users = await connect(input, UserService);
  const [username = ""] = input.arguments;
  const roles = (optionOf(input, "roles") ?? "USER").split(",").map((name) => enumOption(Role_Name, "--roles", name));
  const { password, isMade } = await readPassword(input);
  const timezone = numberOption(input, "timezone", -12) ?? 0;
  const user = { username, password, companyKey: requireOption(input, "company"), roles, timezone, enabled: true };
  await users.createUser({ user }, { signal: input.signal });
  report(input, username, password, isMade);
  return exitCodes.fine;
}

/** Disables a user. With --undo, enables a disabled user. */
export async function blockUser(input: CommandInput): Promise<number> {
  const users = await connect(input, UserService);
  const [username = ""] = input.arguments;
  const enabled = input.options["undo"] === true;
  await users.patchUser({ username, user: { enabled } }, { signal: input.signal });
  input.output.value({ username, enabled }, `${username} is ${enabled ? "enabled" : "blocked"}`);
  return exitCodes.fine;
}

/** Sets a password. Prints it if it was made here. */
export async function resetPassword(input: CommandInput): Promise<number> {
  const users = await connect(input, UserService);
  const [username = ""] = input.arguments;
  const { password, isMade } = await readPassword(input);
  await users.patchUser({ username, user: { password } }, { signal: input.signal });
  report(input, username, password, isMade);
  return exitCodes.fine;
}

/** Reads the password from stdin with --password-stdin, or makes one of 120 random bits. */
async function readPassword(input: CommandInput): Promise<{ password: string; isMade: boolean }> {
  if (input.options["password-stdin"] !== true)
    return { password: randomBytes(15).toString("base64url"), isMade: true };
  return { password: (await text(input.stdin)).replace(/\r?\n$/, ""), isMade: false };
}

/** Prints a password that the caller does not know yet. */
function report({ output }: CommandInput, username: string, password: string, isMade: boolean): void {
  if (isMade) output.value({ username, password }, `${username} ${password}`);
  else output.value({ username }, username);
}
