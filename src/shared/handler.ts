import type {
  DescMethod,
  DescMethodBiDiStreaming,
  DescMethodClientStreaming,
  DescMethodServerStreaming,
  DescMethodUnary,
  DescService,
  MessageInitShape,
  MessageShape,
} from "@bufbuild/protobuf";
import type { Knex } from "knex";
import type { Principal } from "./principal.ts";

/** What a handler knows of a call beyond its message: the pipeline makes it, the same for every transport. */
export interface Call {
  /** Who is asking; throws UNAUTHENTICATED in an RPC that is declared public. */
  readonly principal: Principal;
  /** What joins the call with its log lines, its audit record and its data. */
  readonly tracecode: string;
  /** Aborted when the caller is gone or the deadline has passed. */
  readonly signal: AbortSignal;
  /** The caller's network address. */
  readonly address: string;
  /** Whether the answer is a plain HTTP one: only of such may a handler set the length or a part. */
  readonly isHttp: boolean;
  /** Headers of the request. */
  readonly requestHeader: Headers;
  /** Headers of the answer. */
  readonly responseHeader: Headers;
  /**
   * Makes one change and its audit record in one transaction: both happen or neither.
   * An RPC declared `audited` makes its change through this.
   */
  change<T>(resource: string, work: (transaction: Knex.Transaction) => Promise<Changed<T>>): Promise<T>;
  /**
   * Records that an administrator or a partner has read the data of another user. Own data, and callers of other roles,
   * leave no record. Waits for nothing.
   */
  recordRead(read: Read): void;
}

/** The result of a change. */
export interface Changed<T> {
  readonly answer: T;
  /** The company of the resource before the change, or of a new one: its partners see the action. */
  readonly companyKey: string;
  /** What the change means for the security of a user, recorded beside it under operations of their own. */
  readonly events?: readonly ("change_password" | "change_roles" | "revoke_tokens")[];
}

/** The resource that a caller read. */
export interface Read {
  /** The user whom the resource belongs to. Undefined: all users of the company or, without one, all that the caller sees. */
  readonly username?: string | undefined;
  /** The company of the user, or the one that a list is of; undefined where the handler does not know it. */
  readonly companyKey?: string | undefined;
}

/**
 * The value of a field that its .proto requires, or gives a default: the pipeline has seen to it.
 * @throws Error where the .proto does neither
 */
export function requirePresent<T>(value: T | undefined): T {
  if (value === undefined) throw new Error("a field without a value is neither required nor has it a default");
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
