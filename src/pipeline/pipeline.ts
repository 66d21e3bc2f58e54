import { randomUUID } from "node:crypto";
import { create, type DescMethod, type DescService, type Message, type MessageInitShape } from "@bufbuild/protobuf";
import { pathToString } from "@bufbuild/protobuf/reflect";
import { createValidator } from "@bufbuild/protovalidate";
import type { ConnectError, HandlerContext, ServiceImpl } from "@connectrpc/connect";
import { Outcome_Name } from "#gen/tollgate/v1/lease_pb.js";
import { Method_Group, type Tracedata } from "#gen/tollgate/v1/tracedata_pb.js";
import { eachUntilInterrupted, interruptionOf, untilInterrupted } from "../call/context.ts";
import { createFillDefaults } from "../gateway/defaults.ts";
import { type Database, inTransaction, type Transaction } from "../postgres/database.ts";
import { withPartitions } from "../postgres/partitions.ts";
import { internal, invalid, unauthenticated } from "../shared/errors.ts";
import type { Call, Changed, Handlers, Read } from "../shared/handler.ts";
import { microsOf } from "../shared/instant.ts";
import { type Principal, scopeOf } from "../shared/principal.ts";
import type { Action, ActionWriter } from "../shared/records.ts";
import type { SecurityLog } from "../shared/security-log.ts";
import { isAudited } from "./authorization.ts";
import { originKey } from "./client-origin.ts";
import {
  admitCaller,
  logCall,
  type RequestState,
  type RequestStateOptions,
  requestStateOf,
  toPublicError,
  tracedataOf,
} from "./request-state.ts";
import { operationOf } from "./tracedata.ts";

export interface PipelineOptions extends RequestStateOptions {
  readonly database: Database;
  /** Keeps the record of a change, inside the change's transaction. */
  readonly actions: ActionWriter;
  readonly securityLog: SecurityLog;
  /** Resolves when this server remembers nothing that a change before now has made untrue. */
  readonly caughtUp: () => Promise<void>;
}

/** A service and what implements it, ready for every door. */
export interface Route {
  readonly service: DescService;
  readonly implementation: ServiceImpl<DescService>;
}

/** What every call goes through, whatever door it came by. */
export interface Pipeline {
  /** Wraps the handlers of a service. */
  route<Service extends DescService>(service: Service, handlers: Handlers<Service>): Route;
  /**
   * Refuses who may not call, before a door reads the request; a door that cannot ask is covered by the route itself.
   * Ends with the context: at the deadline, or when the caller is gone. Nothing to wait for: undefined.
   * @throws the error as the caller may read it
   */
  admit(context: HandlerContext): Promise<void> | undefined;
  /** The error of a call that a door admitted and whose request it could not read, as the caller may read it. */
  refuse(context: HandlerContext, error: unknown): ConnectError;
}

type Answer = MessageInitShape<DescMethod["output"]>;
/** One message, or a stream of them. */
type Input = Message | AsyncIterable<Message>;
type OneAnswer = (request: Input, call: Call) => Promise<Answer>;
type ManyAnswers = (request: Input, call: Call) => AsyncIterable<Answer>;

/** Authenticate, authorise, validate, call, audit, map errors and log: once, for all doors. */
export function createPipeline(options: PipelineOptions): Pipeline {
  const validator = createValidator({ regexMatch: matches });

  function oneAnswer(method: DescMethod, handler: OneAnswer) {
    const prepared = createPrepare(method);
    return async (request: Input, context: HandlerContext): Promise<Message> => {
      const requestState = requestStateOf(context, options);
      const answer = () => handler(prepared(request), new PipelineCall(options, context, requestState));
      try {
        const admission = admitCaller(options, context, requestState);
        const work = admission === undefined ? answer() : admission.then(answer);
        // No call outlives its deadline: the caller is told then, and what is under way ends by the database's limits.
        const message = create(method.output, await untilInterrupted(context, work));
        logCall(options, context, requestState);
        return message;
      } catch (error) {
        throw toPublicError(options, context, requestState, error);
      }
    };
  }

  function manyAnswers(method: DescMethod, handler: ManyAnswers) {
    const prepared = createPrepare(method);
    return async function* (request: Input, context: HandlerContext): AsyncGenerator<Message> {
      const requestState = requestStateOf(context, options);
      try {
        const admission = admitCaller(options, context, requestState);
        if (admission !== undefined) await untilInterrupted(context, admission);
        const given = handler(prepared(request), new PipelineCall(options, context, requestState));
        for await (const answer of eachUntilInterrupted(context, given)) yield create(method.output, answer);
        logCall(options, context, requestState);
      } catch (error) {
        throw toPublicError(options, context, requestState, error);
      }
    };
  }

  /** Sets the defaults that the .proto declares, and validates: one message, or each of a stream. */
  function createPrepare(method: DescMethod): (request: Input) => Input {
    const fillDefaults = createFillDefaults(method.input);
    const prepareOne = (message: Message): Message => {
      fillDefaults?.(message);
      validate(method, message);
      return message;
    };
    async function* prepareEach(messages: AsyncIterable<Message>): AsyncGenerator<Message> {
      for await (const message of messages) yield prepareOne(message);
    }
    return (request) =>
      Symbol.asyncIterator in request ? prepareEach(request as AsyncIterable<Message>) : prepareOne(request);
  }

  function validate(method: DescMethod, request: Message): void {
    const result = validator.validate(method.input, request);
    if (result.kind === "error") throw internal(result.error);
    if (result.kind === "invalid") {
      throw invalid(...result.violations.map(({ field, message }) => ({ field: pathToString(field), message })));
    }
  }

  return {
    route(service, handlers) {
      const implementation: Record<string, unknown> = {};
      for (const method of service.methods) {
        const handler = (handlers as Record<string, unknown>)[method.localName];
        // The first validation of a message compiles its rules, some 80 ms: not at the first caller's cost.
        validator.validate(method.input, create(method.input));
        implementation[method.localName] =
          method.methodKind === "unary" || method.methodKind === "client_streaming"
            ? oneAnswer(method, handler as OneAnswer)
            : manyAnswers(method, handler as ManyAnswers);
      }
      return { service, implementation: implementation as ServiceImpl<DescService> };
    },
    admit(context) {
      const requestState = requestStateOf(context, options);
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
    refuse: (context, error) => toPublicError(options, context, requestStateOf(context, options), error),
  };
}

/** A class for the sake of its accessors: see the context's. Doors make what they give when it is asked for. */
class PipelineCall implements Call {
  readonly tracecode: string;
  readonly address: string;
  readonly isHttp: boolean;
  readonly #options: PipelineOptions;
  readonly #context: HandlerContext;
  readonly #requestState: RequestState;

  constructor(options: PipelineOptions, context: HandlerContext, requestState: RequestState) {
    const { code, address } = context.values.get(originKey);
    this.tracecode = code;
    this.address = address;
    this.isHttp = context.protocolName === "http";
    this.#options = options;
    this.#context = context;
    this.#requestState = requestState;
  }

  get principal(): Principal {
    const { caller } = this.#requestState;
    if (caller === undefined) throw unauthenticated("TOKEN_MISSING", "this operation is public and has no caller");
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

  async change<T>(resource: string, work: (transaction: Transaction) => Promise<Changed<T>>): Promise<T> {
    const { database, actions, caughtUp } = this.#options;
    const context = this.#context;
    const { method } = context;
    if (!isAudited(method)) throw internal(new Error(`${method.name} changes things and is not declared audited`));
    const action = toAction(tracedataOf(this.#options, context, this.#requestState), this.principal, resource);
    const result = await withPartitions(database, async () => {
      await actions.prepare([action]);
      return inTransaction(database, async (transaction) => {
        const { answer, companyKey, events = [] } = await work(transaction);
        // The caller has been told that it failed: then it has.
        const interrupted = interruptionOf(context);
        if (interrupted !== undefined) throw interrupted.reason;
        const operations = [action.operation, ...events];
        await actions.write(
          transaction,
          // Two changes of one tracecode in one millisecond are two.
          operations.map((operation) => ({ ...action, operation, visibleCompany: companyKey, part: randomUUID() })),
        );
        return answer;
      });
    });
    // Who was told of a change sees it in the next call.
    await caughtUp();
    return result;
  }
}

/** A change as the audit log keeps it. */
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

const patterns = new Map<string, RegExp>();

/**
 * The patterns of our own protos are classes of characters, which mean the same here as in RE2 and take as little as
 * they look: the library's engine for patterns of strangers takes twenty times that.
 */
function matches(pattern: string, text: string): boolean {
  const known = patterns.get(pattern) ?? new RegExp(pattern, "u");
  patterns.set(pattern, known);
  return known.test(text);
}
