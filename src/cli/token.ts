import { text } from "node:stream/consumers";
import { type CommandInput, numberOption, optionOf, UsageError } from "./command.ts";
import { login } from "./connection.ts";
import { exitCodes } from "./exit-codes.ts";

/** Prints a token. The password comes from TOLLGATE_PASSWORD or from stdin, never from an argument that others can see. */
export async function createToken(input: CommandInput): Promise<number> {
  const username = optionOf(input, "username") ?? input.environment["TOLLGATE_USERNAME"];
  if (!username) throw new UsageError("--username must be set, or TOLLGATE_USERNAME");
  const password = input.environment["TOLLGATE_PASSWORD"] || (await text(input.stdin)).replace(/\r?\n$/, "");
  if (password === "") throw new UsageError("TOLLGATE_PASSWORD must be set, or the password must come on stdin");
  const ttlSeconds = numberOption(input, "ttl", 1);
  const token = await login(input, { username, password, ...(ttlSeconds !== undefined && { ttlSeconds }) });
  input.output.value({ token }, token);
  return exitCodes.fine;
}
