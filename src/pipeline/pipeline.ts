import { randomUUID } from "node:crypto";
import {
  create,
  type DescMessage,
  type DescMethod,
  type DescService,
  type Message,
  type MessageInitShape,
} from "@bufbuild/protobuf";
import type { ConnectError, ContextValues, HandlerContext, ServiceImpl } from "@connectrpc/connect";
import type { Logger } from "pino";
import { Outcome_Name } from "#gen/tollgate/v1/lease_pb.js";
import { Method_Group, type Tracedata } from "#gen/tollgate/v1/tracedata_pb.js";
import { eachUntilInterrupted, interruptionOf, untilInterrupted } from "../call/context.ts";
import { createFillDefaults } from "../gateway/defaults.ts";
import { type Database, inTransaction, type Transaction } from "../postgres/database.ts";
import { withPartitions } from "../postgres/partitions.ts";
import { microsOf } from "../shared/calendar.ts";
import { internal, invalid, unauthenticated } from "../shared/errors.ts";
import type { Call, Changed, Handlers, Read } from "../shared/handler.ts";
import { type Principal, scopeOf } from "../shared/principal.ts";
import type { Action, ActionWriter } from "../shared/records.ts";
import type { SecurityLog } from "../shared/security-log.ts";
import type { Span } from "../shared/tracing.ts";
import { isAudited } from "./authorization.ts";
import { createCallLog, type LogCall } from "./call-log.ts";
import { originKey } from "./client-origin.ts";
import { toItemError } from "./item-errors.ts";
import {
  admitCaller,
  callStateOf,
  countCall,
  type RequestState,
  type RequestStateOptions,
  requestStateOf,
  toPublicError,
  tracedataOf,
} from "./request-state.ts";
import { operationOf } from "./tracedata.ts";
import { createValidate } from "./validate.ts";

export interface PipelineOptions extends RequestStateOptions {
  readonly logger: Logger;
  readonly database: Database;
  /** Writes the audit record of a change in the change's transaction. */
  readonly actions: ActionWriter;
  readonly securityLog: SecurityLog;
  /** Resolves when the local caches are invalidated for every change before now. */
  readonly caughtUp: () => Promise<void>;
}

/** A service and its implementation, for every transport. */
export interface Route {
  readonly service: DescService;
  readonly implementation: ServiceImpl<DescService>;
}

/** The steps that every call passes, whatever its transport. */
export interface Pipeline {
  /** Wraps the handlers of a service. */
  route<Service extends DescService>(service: Service, handlers: Handlers<Service>): Route;
  /**
   * Authorizes the caller before a transport reads the request. The route authorizes callers that were not admitted
   * before. Returns undefined when no I/O was needed. The promise rejects when the context is interrupted.
   * @throws the public error
   */
  admit(context: HandlerContext): Promise<void> | undefined;
  /** Starts the clock of a request. Without it, the clock starts at `admit`. */
  begin(values: ContextValues): void;
  /** Writes the log line of a request when its response has ended. */
  readonly logCall: LogCall;
  /** Converts the error of an admitted call whose request could not be read into the public error. */
  refuse(context: HandlerContext, error: unknown): ConnectError;
}

type Output = MessageInitShape<DescMethod["output"]>;
/** One message, or a stream of them. */
type Input = Message | AsyncIterable<Message>;
type UnaryHandler = (request: Input, call: Call) => Promise<Output>;
type StreamHandler = (request: Input, call: Call) => AsyncIterable<Output>;
/** @throws INVALID_REQUEST that names each field */
type RequireValid = (desc: DescMessage, message: Message) => void;

/** Authenticates, authorizes, validates, calls the handler, audits and maps errors, once for all transports. */
export function createPipeline(options: PipelineOptions): Pipeline {
  const validate = createValidate();
  const requireValid: RequireValid = (desc, message) => {
    const violations = validate(desc, message);
    if (violations.length > 0) throw invalid(...violations);
  };

  function wrapUnary(method: DescMethod, handler: UnaryHandler) {
    const prepare = createPrepare(method);
    return async (request: Input, context: HandlerContext): Promise<Message> => {
      const requestState = callStateOf(context, options);
      const handle = () => handler(prepare(request), new PipelineCall(options, context, requestState, requireValid));
      const start = () => {
        const admission = admitCaller(options, context, requestState);
        return admission === undefined ? handle() : admission.then(handle);
      };
      try {
        const work = requestState.span === undefined ? start() : requestState.span.run(start);
        // The caller gets an error at its deadline. Work in progress ends by the database's time limits.
        const message = create(method.output, await untilInterrupted(context, work));
        countCall(options, context, requestState);
        return message;
      } catch (error) {
        throw toPublicError(options, context, requestState, error);
      }
    };
  }

  function wrapStream(method: DescMethod, handler: StreamHandler) {
    const prepare = createPrepare(method);
    return async function* (request: Input, context: HandlerContext): AsyncGenerator<Message> {
      const requestState = callStateOf(context, options);
      try {
        const admission = admitCaller(options, context, requestState);
        if (admission !== undefined) await untilInterrupted(context, admission);
        const handle = () => handler(prepare(request), new PipelineCall(options, context, requestState, requireValid));
        const outputs = requestState.span === undefined ? handle() : runEach(requestState.span, handle);
        for await (const output of eachUntilInterrupted(context, outputs)) yield create(method.output, output);
        countCall(options, context, requestState);
      } catch (error) {
        throw toPublicError(options, context, requestState, error);
      }
    };
  }

  /** Returns a function that sets declared defaults and validates: one message, or each message of a stream. */
  function createPrepare(method: DescMethod): (request: Input) => Input {
    const fillDefaults = createFillDefaults(method.input);
    const prepareOne = (message: Message): Message => {
      fillDefaults?.(message);
      requireValid(method.input, message);
      return message;
    };
    async function* prepareEach(messages: AsyncIterable<Message>): AsyncGenerator<Message> {
      for await (const message of messages) yield prepareOne(message);
    }
    return (request) =>
      Symbol.asyncIterator in request ? prepareEach(request as AsyncIterable<Message>) : prepareOne(request);
  }

  return {
    route(service, handlers) {
      const implementation: Record<string, unknown> = {};
      for (const method of service.methods) {
        const handler = (handlers as Record<string, unknown>)[method.localName];
        // The first validation of a type compiles its rules, about 80 ms. The first caller must not wait for it.
        validate(method.input, create(method.input));
        implementation[method.localName] =
          method.methodKind === "unary" || method.methodKind === "client_streaming"
            ? wrapUnary(method, handler as UnaryHandler)
            : wrapStream(method, handler as StreamHandler);
      }
      return { service, implementation: implementation as ServiceImpl<DescService> };
    },
    admit(context) {
      const requestState = callStateOf(context, options);
      const refused = (error: unknown) => {
        throw toPublicError(options, context, requestState, error);
      };
      try {
        const admission = admitCaller(options, context, requestState);
        return admission && untilInterrupted(context, admission).catch(refused);
      } catch (error) {
        return refused(error);
      }
    },
    begin: (values) => void requestStateOf({ values }, options),
    logCall: createCallLog(options),
    refuse: (context, error) => toPublicError(options, context, callStateOf(context, options), error),
  };
}

/** Runs each step of a stream in a span: a generator continues in the context of the one that takes its next value. */
async function* runEach<Value>(span: Span, start: () => AsyncIterable<Value>): AsyncGenerator<Value> {
  const iterator = span.run(start)[Symbol.asyncIterator]();
  try {
    for (;;) {
      const { done, value } = await span.run(() => iterator.next());
      if (done === true) return;
      yield value;
    }
  } finally {
    await iterator.return?.();
  }
}

/** A class, because accessors on an object literal are slow to create. Contexts create headers and signals on demand. */
class PipelineCall implements Call {
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
