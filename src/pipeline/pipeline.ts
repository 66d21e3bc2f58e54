import { create, type DescMethod, type DescService, type Message, type MessageInitShape } from "@bufbuild/protobuf";
import type { ConnectError, ContextValues, HandlerContext, ServiceImpl } from "@connectrpc/connect";
import { eachUntilInterrupted, untilInterrupted } from "../call/context.ts";
import { createFillDefaults } from "../gateway/defaults.ts";
import { invalid } from "../shared/errors.ts";
import type { Call, Handlers } from "../shared/handler.ts";
import { traceEach } from "../shared/tracing.ts";
import { createCallLog, type LogCall } from "./call-log.ts";
import { PipelineCall, type PipelineOptions, type RequireValid } from "./pipeline-call.ts";
import { admitCaller, callStateOf, countCall, requestStateOf, toPublicError } from "./request-state.ts";
import { createValidate } from "./validate.ts";

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

/** The fields of a message. A transport creates the message if it needs one. */
type Output = MessageInitShape<DescMethod["output"]>;
/** One message, or a stream of them. */
type Input = Message | AsyncIterable<Message>;
type UnaryHandler = (request: Input, call: Call) => Promise<Output>;
type StreamHandler = (request: Input, call: Call) => AsyncIterable<Output>;

/** Authenticates, authorizes, validates, calls the handler, audits and maps errors, once for all transports. */
export function createPipeline(options: PipelineOptions): Pipeline {
  const validate = createValidate();
  const requireValid: RequireValid = (desc, message) => {
    const violations = validate(desc, message);
    if (violations.length > 0) throw invalid(...violations);
  };

  function wrapUnary(method: DescMethod, handler: UnaryHandler) {
    const prepare = createPrepare(method);
    return async (request: Input, context: HandlerContext): Promise<Output> => {
      const requestState = callStateOf(context, options);
      const handle = () => handler(prepare(request), new PipelineCall(options, context, requestState, requireValid));
      const start = () => {
        const admission = admitCaller(options, context, requestState);
        return admission === undefined ? handle() : admission.then(handle);
      };
      try {
        const work = requestState.span === undefined ? start() : requestState.span.run(start);
        // The caller gets an error at its deadline. Work in progress ends by the database's time limits.
        const output = await untilInterrupted(context, work);
        countCall(options, context, requestState);
        return output;
      } catch (error) {
        throw toPublicError(options, context, requestState, error);
      }
    };
  }

  function wrapStream(method: DescMethod, handler: StreamHandler) {
    const prepare = createPrepare(method);
    return async function* (request: Input, context: HandlerContext): AsyncGenerator<Output> {
      const requestState = callStateOf(context, options);
      try {
        const admission = admitCaller(options, context, requestState);
        if (admission !== undefined) await untilInterrupted(context, admission);
        const handle = () => handler(prepare(request), new PipelineCall(options, context, requestState, requireValid));
        const outputs = requestState.span === undefined ? handle() : traceEach(requestState.span, handle);
        for await (const output of eachUntilInterrupted(context, outputs)) yield output;
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
