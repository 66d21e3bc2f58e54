import { Code, ConnectError, createContextKey, type HandlerContext } from "@connectrpc/connect";
import type { Logger } from "pino";
import { type Tracedata, TracedataSchema } from "#gen/tollgate/v1/tracedata_pb.js";
import type { Authenticator } from "../accounts/auth/service.ts";
import { interruptionOf } from "../call/context.ts";
import { findReason } from "../call/errors.ts";
import { toError } from "../postgres/errors.ts";
import { complete, invalid, unauthenticated } from "../shared/errors.ts";
import type { Principal } from "../shared/principal.ts";
import { authorise, isPublic } from "./authorization.ts";
import { originKey } from "./client-origin.ts";
import { clientOf, operationOf, tracecodeHeader, traceOf } from "./tracedata.ts";

export interface VisitOptions {
  readonly logger: Logger;
  /** The name of this server in tracedata. */
  readonly serverName: string;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
  readonly authenticator: Pick<Authenticator, "peek" | "authenticate">;
  /** Told of the connection of each authenticated call. */
  readonly onKnown?: (connection: object | undefined) => void;
}

/** What is known of a request on its way, whatever door it came by and however many contexts it has. */
export interface Visit {
  readonly startedMs: number;
  isAdmitted: boolean;
  /** Also who may not call: a refusal names them. */
  caller: Principal | undefined;
}

const visitKey = createContextKey<Visit | undefined>(undefined, { description: "a request on its way" });

export function visitOf({ values }: HandlerContext, { now }: VisitOptions): Visit {
  const known = values.get(visitKey);
  if (known !== undefined) return known;
  const visit: Visit = { startedMs: now(), isAdmitted: false, caller: undefined };
  values.set(visitKey, visit);
  return visit;
}

/** Refuses who may not call. Nothing to wait for: undefined. */
export function admit(
  options: VisitOptions,
  { method, values }: HandlerContext,
  visit: Visit,
): Promise<void> | undefined {
  if (visit.isAdmitted) return undefined;
  const { codeRefused, authorization, connection } = values.get(originKey);
  if (codeRefused) throw invalid({ field: tracecodeHeader, message: "the header must be a UUID" });
  if (isPublic(method)) {
    visit.isAdmitted = true;
    return undefined;
  }
  const token = /^Bearer +(\S+)$/i.exec(authorization)?.[1];
  if (token === undefined) throw unauthenticated("TOKEN_MISSING", "a token is needed: Authorization: Bearer <token>");
  const known = options.authenticator.peek(token);
  if (known === undefined) return options.authenticator.authenticate(token).then(enter);
  enter(known);
  return undefined;

  function enter(principal: Principal | undefined): void {
    if (principal === undefined) throw unauthenticated("TOKEN_INVALID", "the token is not valid");
    visit.caller = principal;
    options.onKnown?.(connection);
    authorise(method, principal);
    visit.isAdmitted = true;
  }
}

export function trace({ serverName }: VisitOptions, { method, values }: HandlerContext, visit: Visit): Tracedata {
  const { code } = values.get(originKey);
  return traceOf({ code, server: serverName, method, principal: visit.caller, timeMs: visit.startedMs });
}

/** The error as the caller may read it. */
export function fail(options: VisitOptions, context: HandlerContext, visit: Visit, error: unknown): ConnectError {
  // The caller's own going away is no fault of what it interrupted.
  const interrupted = interruptionOf(context);
  const known = complete(
    interrupted === undefined ? toError(error) : ConnectError.from(interrupted.reason, Code.Canceled),
  );
  known.details.push({ desc: TracedataSchema, value: trace(options, context, visit) });
  log(options, context, visit, known);
  return known;
}

export function log({ logger, now }: VisitOptions, context: HandlerContext, visit: Visit, error?: ConnectError): void {
  if (error === undefined && !logger.isLevelEnabled("info")) return;
  const fields = {
    tracecode: context.values.get(originKey).code,
    client: clientOf(visit.caller),
    operation: operationOf(context.method),
    protocol: context.protocolName,
    outcome: error === undefined ? "ok" : (Code[error.code] ?? ""),
    durationMs: now() - visit.startedMs,
  };
  if (error === undefined) logger.info(fields, "call");
  else if (isFault(error)) logger.error({ ...fields, err: error.cause ?? error }, "call failed");
  else logger.info({ ...fields, reason: findReason(error), message: error.rawMessage }, "call refused");
}

/** An UNAVAILABLE without a cause is a refusal by a limit of ours: a flood of them must not cost a stack trace each. */
function isFault({ code, cause }: ConnectError): boolean {
  if (code === Code.Unavailable) return cause !== undefined;
  return code === Code.Internal || code === Code.Unknown || code === Code.DataLoss;
}
