import type { Knex } from "knex";

/** An action, as the audit log stores it. */
export interface Action {
  /** Microseconds since the epoch. */
  readonly timeMicros: number;
  /** UUID, lower case. */
  readonly tracecode: string;
  readonly operation: string;
  /** UUID that distinguishes actions of one tracecode, operation and microsecond: the operation_id of a settled lease. */
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
  /** The resource of an administrative change or a security event. */
  readonly resource?: string | undefined;
  /**
   * The company of the resource, whose partners see the action, when it differs from the user's company. Empty: only
   * administrators see the action.
   */
  readonly visibleCompany?: string | undefined;
  /** The network address that a login came from. */
  readonly address?: string | undefined;
  /** How often a security event happened since `timeMicros`. Absent for other actions. */
  readonly times?: number;
  /** The day in the user's time zone that the usage is added to. Absent when the action adds none. */
  readonly usageDay?: number;
}

/** The usage of a method group by a user on a day. */
export interface Usage {
  /** The day in the user's time zone. */
  readonly day: number;
  readonly userId: number;
  readonly username: string;
  readonly companyKey: string;
  /** Numbers of Service.Name and Method.Group. */
  readonly service: number;
  readonly methodGroup: number;
  readonly points: number;
  /** 64-bit hashes of the points, to count unique points. */
  readonly pointKeys: readonly bigint[];
}

/** Returns the weight of a record in a batch. 100 points weigh as much as a record; a record may have 100,000 points. */
export function weightOf({ pointKeys }: Pick<Usage, "pointKeys">): number {
  return 1 + pointKeys.length / 100;
}

/** Writes records in the transaction of the change that they describe. */
export interface RecordWriter<Record, Place, Written = void> {
  /** Creates missing partitions. Call it before the transaction begins: it changes tables. */
  prepare(places: readonly Place[]): Promise<void>;
  write(transaction: Knex.Transaction, records: readonly Record[]): Promise<Written>;
}

/** Writes the audit log. `write` returns the actions that are new: a repeated action is stored once. */
export interface ActionWriter extends RecordWriter<Action, Pick<Action, "timeMicros">, Action[]> {
  /** Returns the actions whose time, tracecode and operation the log has with another user, service, method group or points. */
  findContradicted(on: Knex, actions: readonly Action[]): Promise<Action[]>;
  /** Adds the unique points that `countPoints` has counted to the statistics. */
  addUniquePoints(transaction: Knex.Transaction, counts: readonly UniquePoints[]): Promise<void>;
  /** Whether the actions are sent to the audit sink. */
  readonly hasSink: boolean;
  /** Call it after the commit of actions that a statement of another writer has inserted. */
  scheduleRollUp(): void;
}

/** The points that usage has added to those of the user's day. */
export interface UniquePoints extends Pick<Usage, Exclude<UsageKey, "day">> {
  /** YYYY-MM-DD */
  readonly day: string;
  readonly uniquePoints: number;
}

/** Writes the points of usage. The statements of settlements and of actions write its sums. */
export interface UsageWriter extends Pick<RecordWriter<Usage, Pick<Usage, "day" | "pointKeys">>, "prepare"> {
  /** Stores and counts the unique points of usage that has been added without them. `addUniquePoints` adds the counts. */
  countPoints(
    transaction: Knex.Transaction,
    usages: readonly Pick<Usage, UsageKey | "pointKeys">[],
  ): Promise<UniquePoints[]>;
}
type UsageKey = "userId" | "service" | "methodGroup" | "day" | "username" | "companyKey";
