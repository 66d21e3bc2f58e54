import type { Knex } from "knex";

/** Something that was done, as the audit log keeps it. */
export interface Action {
  /** Microseconds since the epoch. */
  readonly timeMicros: number;
  /** UUID, lower case. */
  readonly tracecode: string;
  readonly operation: string;
  /** Tells apart what one tracecode may do many times in a microsecond: the operation_id of a lease that was settled. */
  readonly part?: string;
  readonly userId: number;
  readonly username: string;
  readonly companyKey: string;
  readonly server: string;
  /** Numbers of Service.Name and Method.Group. */
  readonly service: number;
  readonly methodGroup: number;
  readonly points?: number | undefined;
  readonly durationMs?: number | undefined;
  /** Number of Outcome.Name. */
  readonly outcome: number;
  /** What an administrative change has changed, or what a security event is about. */
  readonly resource?: string | undefined;
  /**
   * The company whose partners see the action, where it is another one than the user's: that of the resource. Empty:
   * none, administrators alone see it.
   */
  readonly visibleCompany?: string | undefined;
  /** The network address that a login came from. */
  readonly address?: string | undefined;
  /** How many times a security event happened from its time on; absent for everything else. */
  readonly times?: number;
  /** The user's day to which its usage is added, in days since 1970-01-01; absent where it adds none. */
  readonly usageDay?: number;
}

/** What a user has used of a method group on a day. */
export interface Usage {
  /** The user's own day, in days since 1970-01-01. */
  readonly day: number;
  readonly userId: number;
  readonly username: string;
  readonly companyKey: string;
  /** Numbers of Service.Name and Method.Group. */
  readonly service: number;
  readonly methodGroup: number;
  readonly points: number;
  /** 64-bit hashes of the points, for counting unique ones. */
  readonly pointKeys: readonly bigint[];
}

/** How much of a batch a record is: it may bring a hundred thousand points, a hundred of which are as much as itself. */
export function weightOf({ pointKeys }: Pick<Usage, "pointKeys">): number {
  return 1 + pointKeys.length / 100;
}

/** Keeps records within the transaction of what they are about. */
export interface RecordWriter<Record, Place, Written = void> {
  /** Makes room for them; before the transaction begins, since it changes tables. */
  prepare(places: readonly Place[]): Promise<void>;
  write(transaction: Knex.Transaction, records: readonly Record[]): Promise<Written>;
}

/** The audit log. Writing returns what was not there yet: an action that is told again is the same one. */
export interface ActionWriter extends RecordWriter<Action, Pick<Action, "timeMicros">, Action[]> {
  /** Those whose time, tracecode and operation the log has with another user, service, method group or points. */
  findContradicted(transaction: Knex.Transaction, actions: readonly Action[]): Promise<Action[]>;
}
export type UsageWriter = RecordWriter<Usage, Pick<Usage, "day" | "pointKeys">>;
