import { Code, ConnectError } from "@connectrpc/connect";
import { ErrorInfoSchema } from "#gen/google/rpc/error_details_pb.js";
import { UsageError } from "./command.ts";

/** Exit codes of the command line. 75 is EX_TEMPFAIL of sysexits.h. */
export const exitCodes = { fine: 0, found: 1, usage: 2, refused: 3, notFound: 4, notAllowed: 5, tryAgain: 75 } as const;

/** The meaning of each exit code, for docs/command-line.md. */
export const exitCodeMeanings: Readonly<Record<keyof typeof exitCodes, string>> = {
  fine: "success",
  found: "the command found something: a difference or a problem",
  usage: "wrong use of the command line",
  refused: "the server refused the request, or the command failed",
  notFound: "not found",
  notAllowed: "not allowed, or not logged in",
  tryAgain: "the server does not answer: try again later",
};

const codes: Readonly<Partial<Record<Code, number>>> = {
  [Code.NotFound]: exitCodes.notFound,
  [Code.PermissionDenied]: exitCodes.notAllowed,
  [Code.Unauthenticated]: exitCodes.notAllowed,
  [Code.Unavailable]: exitCodes.tryAgain,
  [Code.DeadlineExceeded]: exitCodes.tryAgain,
  [Code.Aborted]: exitCodes.tryAgain,
};

/** Returns the exit code of a failed command. */
export function exitCodeOf(error: unknown): number {
  if (error instanceof UsageError) return exitCodes.usage;
  if (error instanceof ConnectError) return codes[error.code] ?? exitCodes.refused;
  return exitCodes.refused;
}

/** Returns one line for people: the message, and the reason to look up in docs/errors.md. */
export function describeError(error: unknown): string {
  if (error instanceof ConnectError) {
    const reason = error.findDetails(ErrorInfoSchema)[0]?.reason;
    return reason === undefined ? error.rawMessage : `${error.rawMessage} (${reason})`;
  }
  if (error instanceof AggregateError) return describeError(error.errors[0]);
  return error instanceof Error ? error.message : String(error);
}
