import { randomUUID } from "node:crypto";
import type { DescMessage, Message } from "@bufbuild/protobuf";
import type { ConnectError, HandlerContext } from "@connectrpc/connect";
import type { Logger } from "pino";
import { Outcome_Name } from "#gen/tollgate/v1/lease_pb.js";
import { Method_Group, type Tracedata } from "#gen/tollgate/v1/tracedata_pb.js";
import { interruptionOf } from "../call/context.ts";
import { type Database, inTransaction, type Transaction } from "../postgres/database.ts";
import { withPartitions } from "../postgres/partitions.ts";
import { microsOf } from "../shared/calendar.ts";
import { internal, unauthenticated } from "../shared/errors.ts";
import type { Call, Changed, Read } from "../shared/handler.ts";
import { type Principal, scopeOf } from "../shared/principal.ts";
import type { Action, ActionWriter } from "../shared/records.ts";
import type { SecurityLog } from "../shared/security-log.ts";
import { isAudited } from "./authorization.ts";
import { originKey } from "./client-origin.ts";
import { toItemError } from "./item-errors.ts";
import { admitCaller, type RequestState, type RequestStateOptions, tracedataOf } from "./request-state.ts";
import { operationOf } from "./tracedata.ts";

export interface PipelineOptions extends RequestStateOptions {
  readonly logger: Logger;
  readonly database: Database;
  /** Writes the audit record of a change in the change's transaction. */
  readonly actions: ActionWriter;
  readonly securityLog: SecurityLog;
  /** Resolves when the local caches are invalidated for every change before now. */
  readonly caughtUp: () => Promise<void>;
}

/** @throws INVALID_REQUEST that names each field */
export type RequireValid = (desc: DescMessage, message: Message) => void;

/** A class, because accessors on an object literal are slow to create. Contexts create headers and signals on demand. */
export class PipelineCall implements Call {
  readonly tracecode: string;
  readonly address: string;
  readonly isHttp: boolean;
  readonly #options: PipelineOptions;
  readonly #context: HandlerContext;
  readonly #requestState: RequestState;
  readonly #requireValid: RequireValid;

  constructor(
    options: PipelineOptions,
    context: HandlerContext,
    requestState: RequestState,
    requireValid: RequireValid,
  ) {
    const { code, address } = context.values.get(originKey);
    this.tracecode = code;
    this.address = address;
    this.isHttp = context.protocolName === "http";
    this.#options = options;
    this.#context = context;
    this.#requestState = requestState;
    this.#requireValid = requireValid;
  }

  get principal(): Principal {
    const { caller } = this.#requestState;
    if (caller === undefined) throw unauthenticated("TOKEN_MISSING", "the operation is public and has no caller");
    return caller;
  }

  get signal(): AbortSignal {
    return this.#context.signal;
  }

  get requestHeader(): Headers {
    return this.#context.requestHeader;
  }

  get responseHeader(): Headers {
    return this.#context.responseHeader;
  }

  logFailedLogin(username: string): void {
    this.#requestState.loginUser = username;
  }

  recordRead({ username, companyKey }: Read): void {
    const { principal } = this;
    const scope = scopeOf(principal);
    if (scope.kind === "self" || username === principal.username) return;
    this.#options.securityLog.record({
      operation: operationOf(this.#context.method),
      outcome: Outcome_Name.SUCCESS,
      tracecode: this.tracecode,
      user: principal,
      read: { username, companyKey: scope.kind === "company" ? scope.companyKey : companyKey },
    });
  }

  async admitAgain(): Promise<Principal> {
    const again: RequestState = { ...this.#requestState, isAdmitted: false, caller: undefined };
    await admitCaller(this.#options, this.#context, again);
    if (again.caller === undefined) throw internal(new Error("a public RPC has no caller to admit again"));
    return again.caller;
  }

  validateItem(desc: DescMessage, item: Message): void {
    this.#requireValid(desc, item);
  }

  toItemError(error: unknown): ConnectError {
    return toItemError(this.#options, this.#context, this.#requestState, error);
  }

  async change<T>(resource: string, work: (transaction: Transaction) => Promise<Changed<T>>): Promise<T> {
    const { database, actions, caughtUp } = this.#options;
    const context = this.#context;
    const { method } = context;
    if (!isAudited(method)) throw internal(new Error(`${method.name} must be declared audited to change data`));
    const action = toAction(tracedataOf(this.#options, context, this.#requestState), this.principal, resource);
    const result = await withPartitions(database, async () => {
      await actions.prepare([action]);
      return inTransaction(database, async (transaction) => {
        const { answer, companyKey, events = [] } = await work(transaction);
        // The caller has received an error, so the change must not be committed.
        const interrupted = interruptionOf(context);
        if (interrupted !== undefined) throw interrupted.reason;
        const operations = [action.operation, ...events];
        await actions.write(
          transaction,
          // The random part keeps two changes of one tracecode in the same millisecond apart.
          operations.map((operation) => ({ ...action, operation, visibleCompany: companyKey, part: randomUUID() })),
        );
        return answer;
      });
    });
    // Read-your-writes: wait until local caches are invalidated.
    await caughtUp();
    return result;
  }
}

/** Returns the audit record of a change. */
function toAction(tracedata: Tracedata, { userId, username, companyKey }: Principal, resource: string): Action {
  const { code, server, service, operation, time } = tracedata;
  return {
    timeMicros: time === undefined ? 0 : microsOf(time),
    tracecode: code.toLowerCase(),
    operation,
    userId,
    username,
    companyKey,
    server,
    service,
    methodGroup: Method_Group.NOTRACE,
    outcome: Outcome_Name.SUCCESS,
    resource,
  };
}
