import type {
  DescMessage,
  DescMethod,
  DescMethodBiDiStreaming,
  DescMethodClientStreaming,
  DescMethodServerStreaming,
  DescMethodUnary,
  DescService,
  Message,
  MessageInitShape,
  MessageShape,
} from "@bufbuild/protobuf";
import type { ConnectError } from "@connectrpc/connect";
import type { Knex } from "knex";
import type { Principal } from "./principal.ts";

/** The context of a call. The pipeline creates it. It is the same for every protocol. */
export interface Call {
  /** The authenticated caller. Reading it throws UNAUTHENTICATED in an RPC that the .proto declares public. */
  readonly principal: Principal;
  /** UUID that joins the call with its log lines, its audit record and its data. */
  readonly tracecode: string;
  /** Aborted when the caller disconnects or the deadline passes. */
  readonly signal: AbortSignal;
  /** The caller's network address. */
  readonly address: string;
  /** Whether the response is plain HTTP. Only then may a handler set Content-Length or Content-Range. */
  readonly isHttp: boolean;
  readonly requestHeader: Headers;
  readonly responseHeader: Headers;
  /**
   * Runs one change and writes its audit record in the same transaction. An RPC declared `audited` must use it.
   */
  change<T>(resource: string, work: (transaction: Knex.Transaction) => Promise<Changed<T>>): Promise<T>;
  /** Adds the name of the existing user whose login failed to the log line of the call. */
  logFailedLogin(username: string): void;
  /**
   * Records that an administrator or a partner has read the data of another user. Does nothing for the caller's own data
   * and for callers with other roles. Does not wait.
   */
  recordRead(read: Read): void;
  /**
   * Authenticates and authorizes the caller again, for a stream that outlives its admission.
   * @throws TOKEN_INVALID or ROLE_REQUIRED when the caller may not make this call any more
   */
  admitAgain(): Promise<Principal>;
  /**
   * Validates a message of a batch that the .proto exempts from the validation of the whole request.
   * @throws INVALID_REQUEST that names each field
   */
  validateItem(desc: DescMessage, item: Message): void;
  /** Converts the error of one item of a batch into the public error that its unary call returns. Logs a fault. */
  toItemError(error: unknown): ConnectError;
}

/** The result of a change. */
export interface Changed<T> {
  readonly answer: T;
  /** The company whose partners see the action: the resource's company before the change, or of the new resource. */
  readonly companyKey: string;
  /** Security events of the change. Each is recorded as an operation of its own. */
  readonly events?: readonly ("change_password" | "change_roles" | "revoke_tokens")[];
}

/** The resource that a caller read. */
export interface Read {
  /** The owner of the resource. Undefined: all users of the company or, without a company, all that the caller sees. */
  readonly username?: string | undefined;
  /** The company of the user or of the list. Undefined when the handler does not know it. */
  readonly companyKey?: string | undefined;
}

/**
 * Returns the value of a field that the .proto requires or gives a default. The pipeline has validated it.
 * @throws Error when the .proto does neither
 */
export function requirePresent<T>(value: T | undefined): T {
  if (value === undefined) throw new Error("a field without a value must be required or have a default in its .proto");
  return value;
}

/** The implementation of a service: one handler for each of its RPCs. */
export type Handlers<Service extends DescService> = {
  [Name in keyof Service["method"]]: Handler<Service["method"][Name]>;
};

/** The implementation of an RPC. */
export type Handler<Method extends DescMethod> =
  Method extends DescMethodUnary<infer Input, infer Output>
    ? (request: MessageShape<Input>, call: Call) => Promise<MessageInitShape<Output>>
    : Method extends DescMethodServerStreaming<infer Input, infer Output>
      ? (request: MessageShape<Input>, call: Call) => AsyncIterable<MessageInitShape<Output>>
      : Method extends DescMethodClientStreaming<infer Input, infer Output>
        ? (requests: AsyncIterable<MessageShape<Input>>, call: Call) => Promise<MessageInitShape<Output>>
        : Method extends DescMethodBiDiStreaming<infer Input, infer Output>
          ? (requests: AsyncIterable<MessageShape<Input>>, call: Call) => AsyncIterable<MessageInitShape<Output>>
          : never;
