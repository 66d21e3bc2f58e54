import { randomUUID } from "node:crypto";
import { create, type DescMethod, type DescService, type Message, type MessageInitShape } from "@bufbuild/protobuf";
import { pathToString } from "@bufbuild/protobuf/reflect";
import { createValidator } from "@bufbuild/protovalidate";
import { Code, ConnectError, type ContextValues, type HandlerContext, type ServiceImpl } from "@connectrpc/connect";
import type { Logger } from "pino";
import { Outcome_Name } from "#gen/tollgate/v1/lease_pb.js";
import { Method_Group, type Tracedata, TracedataSchema } from "#gen/tollgate/v1/tracedata_pb.js";
import type { Call, Handlers } from "../core/call.ts";
import { internal, invalid, unauthenticated } from "../core/errors.ts";
import type { Action, ActionBook } from "../core/history.ts";
import { microsOf } from "../core/instant.ts";
import type { Principal } from "../core/principal.ts";
import { eachUntilInterrupted, interruptionOf, untilInterrupted } from "../gateway/context.ts";
import { type Database, inTransaction } from "../storage/database.ts";
import { toError } from "../storage/errors.ts";
import { withPartitions } from "../storage/partitions.ts";
import { authorise, isAudited, isPublic } from "./access.ts";
import { originKey } from "./origin.ts";
import { clientOf, operationOf, tracecodeHeader, traceOf } from "./trace.ts";

export interface PipelineOptions {
  readonly database: Database;
  readonly logger: Logger;
  /** The name of this server in tracedata. */
  readonly serverName: string;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
  /** Whose token it is; undefined for one that is not valid now. */
  readonly authenticate: (token: string) => Promise<Principal | undefined>;
  /** Keeps the record of a change, inside the change's transaction. */
  readonly actions: ActionBook;
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
   * Ends with the context: at the deadline, or when the caller is gone.
   * @throws the error as the caller may read it
   */
  admit(context: HandlerContext): Promise<void>;
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
  const passages = new WeakMap<HandlerContext, Passage>();
  const admissions: Admissions = new WeakMap();

  function passageOf(context: HandlerContext): Passage {
    const passage = passages.get(context) ?? enter(options, context, admissions);
    passages.set(context, passage);
    return passage;
  }

  function oneAnswer(method: DescMethod, handler: OneAnswer) {
    return async (request: Input, context: HandlerContext): Promise<Message> => {
      const passage = passageOf(context);
      try {
        const work = passage.admit().then(() => handler(validated(method, request), passage.call));
        // No call outlives its deadline: the caller is told then, and what is under way ends by the database's limits.
        const answer = create(method.output, await untilInterrupted(context, work));
        passage.leave();
        return answer;
      } catch (error) {
        throw passage.fail(error);
      }
    };
  }

  function manyAnswers(method: DescMethod, handler: ManyAnswers) {
    return async function* (request: Input, context: HandlerContext): AsyncGenerator<Message> {
      const passage = passageOf(context);
      try {
        await untilInterrupted(context, passage.admit());
        const answers = eachUntilInterrupted(context, handler(validated(method, request), passage.call));
        for await (const answer of answers) yield create(method.output, answer);
        passage.leave();
      } catch (error) {
        throw passage.fail(error);
      }
    };
  }

  function validated(method: DescMethod, request: Input): Input {
    if (Symbol.asyncIterator in request) return eachValidated(method, request as AsyncIterable<Message>);
    validate(method, request);
    return request;
  }

  async function* eachValidated(method: DescMethod, requests: AsyncIterable<Message>): AsyncGenerator<Message> {
    for await (const request of requests) {
      validate(method, request);
      yield request;
    }
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
    async admit(context) {
      const passage = passageOf(context);
      await untilInterrupted(context, passage.admit()).catch((error: unknown) => {
        throw passage.fail(error);
      });
    },
    refuse: (context, error) => passageOf(context).fail(error),
  };
}

type Passage = ReturnType<typeof enter>;

/** Who may call, found out once for a request, by the values that all its contexts share. */
type Admissions = WeakMap<ContextValues, Promise<Principal | undefined>>;

/** One call on its way through the pipeline. */
function enter(options: PipelineOptions, context: HandlerContext, admissions: Admissions) {
  const { method } = context;
  const { code, codeRefused, address, authorization } = context.values.get(originKey);
  const started = options.now();
  let principal: Principal | undefined;
  /** Whom a refusal names: also who may not call. */
  let caller: Principal | undefined;
  // Made where it is looked at: a call that goes well does without.
  const trace = () => traceOf({ code, server: options.serverName, method, principal: caller, timeMs: started });

  const call: Call = {
    get principal() {
      if (principal === undefined) throw unauthenticated("this operation is public and has no caller");
      return principal;
    },
    tracecode: code,
    address,
    isHttp: context.protocolName === "http",
    // Not read unless they are asked for: doors make them then.
    get signal() {
      return context.signal;
    },
    get requestHeader() {
      return context.requestHeader;
    },
    get responseHeader() {
      return context.responseHeader;
    },
    async change(resource, work) {
      if (!isAudited(method)) throw internal(new Error(`${method.name} changes things and is not declared audited`));
      const action = toAction(trace(), call.principal, resource);
      const result = await withPartitions(options.database, async () => {
        await options.actions.prepare([action]);
        return inTransaction(options.database, async (transaction) => {
          const made = await work(transaction);
          // The caller has been told that it failed: then it has.
          const interrupted = interruptionOf(context);
          if (interrupted !== undefined) throw interrupted.reason;
          await options.actions.write(transaction, [action]);
          return made;
        });
      });
      // Who was told of a change sees it in the next call.
      await options.caughtUp();
      return result;
    },
  };

  return {
    call,
    /** Refuses who may not call. */
    async admit(): Promise<void> {
      const admission = admissions.get(context.values) ?? admit();
      admissions.set(context.values, admission);
      principal = await admission;
      caller = principal;
    },
    leave(): void {
      log("ok");
    },
    /** The error as the caller may read it. */
    fail(error: unknown): ConnectError {
      // The caller's own going away is no fault of what it interrupted.
      const interrupted = interruptionOf(context);
      const known = interrupted === undefined ? toError(error) : ConnectError.from(interrupted.reason, Code.Canceled);
      known.details.push({ desc: TracedataSchema, value: trace() });
      log(Code[known.code] ?? "", known);
      return known;
    },
  };

  async function admit(): Promise<Principal | undefined> {
    if (codeRefused) throw invalid({ field: tracecodeHeader, message: "the header must be a UUID" });
    if (isPublic(method)) return undefined;
    const known = await identify(options, authorization);
    caller = known;
    authorise(method, known);
    return known;
  }

  function log(outcome: string, error?: ConnectError): void {
    if (error === undefined && !options.logger.isLevelEnabled("info")) return;
    const fields = {
      tracecode: code,
      client: clientOf(caller),
      operation: operationOf(method),
      protocol: context.protocolName,
      outcome,
      durationMs: options.now() - started,
    };
    if (error === undefined) options.logger.info(fields, "call");
    else if (isFault(error)) options.logger.error({ ...fields, err: error.cause ?? error }, "call failed");
    else options.logger.info({ ...fields, reason: error.rawMessage }, "call refused");
  }
}

/** A change as the audit log keeps it. */
function toAction(tracedata: Tracedata, { userId, username, companyKey }: Principal, resource: string): Action {
  const { code, server, service, operation, time } = tracedata;
  return {
    timeMicros: time === undefined ? 0 : microsOf(time),
    tracecode: code.toLowerCase(),
    operation,
    // Two changes of one tracecode in one millisecond are two.
    part: randomUUID(),
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

async function identify(options: PipelineOptions, authorization: string): Promise<Principal> {
  const token = /^Bearer +(\S+)$/i.exec(authorization)?.[1];
  if (token === undefined) throw unauthenticated("a token is needed: Authorization: Bearer <token>");
  const principal = await options.authenticate(token);
  if (principal === undefined) throw unauthenticated("the token is not valid");
  return principal;
}

function isFault({ code }: ConnectError): boolean {
  return code === Code.Internal || code === Code.Unknown || code === Code.Unavailable || code === Code.DataLoss;
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
