/** The history of a run, a JSON line each. Callers write it, and the checker reads it: it is all that both share. */
export type Line =
  | AcquireLine
  | EndLine
  | RecordLine
  | ChangeLine
  | ClockLine
  | FaultLine
  | UsageLine
  | { readonly call: "start"; readonly baseMs: number; readonly isCommit: boolean };

/** When a call was sent and answered, in milliseconds of the callers' steady clock. */
interface Timed {
  readonly sent: number;
  readonly answered: number;
}

/** A call that was not answered OK. Without a reason the call may have taken effect. */
export interface Failure {
  readonly code: string;
  /** From the error's details: a refusal has one. */
  readonly reason: string;
  readonly message: string;
}

export interface AcquireLine extends Timed {
  readonly call: "acquire";
  readonly how: "single" | "batch" | "stream";
  readonly server: number;
  readonly items: readonly AcquireItem[];
}

export interface AcquireItem {
  readonly user: string;
  readonly group: number;
  readonly op: string;
  readonly points: number;
  readonly lease?: string;
  /** By Redis' clock, milliseconds since the epoch. */
  readonly granted?: number;
  readonly expire?: number;
  readonly isActive?: boolean;
  readonly failure?: Failure;
  /** The limits that a refusal names: day, window, running. */
  readonly violated?: readonly string[];
}

/** A call about a lease that was granted. */
export interface EndLine extends Timed {
  readonly call: "renew" | "settle" | "release";
  readonly server: number;
  readonly user: string;
  readonly group: number;
  readonly op: string;
  readonly lease: string;
  /** Of a settlement. */
  readonly points?: number;
  /** As the answer says, by Redis' clock. */
  readonly expire?: number;
  /** The lease that the answer names. */
  readonly answer?: string;
  readonly failure?: Failure;
}

/** Calculations without a lease. */
export interface RecordLine extends Timed {
  readonly call: "record";
  readonly server: number;
  readonly actions: readonly { readonly tracecode: string; readonly user: string; readonly points: number }[];
  readonly failure?: Failure;
}

export interface Limits {
  readonly perRequest: number;
  readonly perDay: number;
  /** Undefined: not limited. */
  readonly perWindow?: number;
  readonly running: number;
}

/** A change of a user. One user's changes are sent one after the other. */
export interface ChangeLine extends Timed {
  readonly call: "change";
  readonly user: string;
  readonly what: Change;
  readonly failure?: Failure;
}

export type Change =
  | { readonly kind: "created"; readonly company: string; readonly timezone: number }
  | { readonly kind: "base"; readonly limits: Readonly<Record<number, Limits>> }
  /** Days from 1970-01-01, `to` excluded. Without limits: the period is removed. */
  | {
      readonly kind: "period";
      readonly from: number;
      readonly to: number;
      readonly limits?: Readonly<Record<number, Limits>>;
    }
  | { readonly kind: "timezone"; readonly timezone: number }
  | { readonly kind: "company"; readonly company: string }
  | { readonly kind: "deleted" };

/** The clock of Redis is moved to be so far ahead of the callers' steady clock. */
export interface ClockLine extends Timed {
  readonly call: "clock";
  readonly offsetMs: number;
}

/** `answered`: all servers serve again. */
export interface FaultLine extends Timed {
  readonly call: "fault";
  readonly kind: string;
}

/** What the counters say of a user at the end. */
export interface UsageLine extends Timed {
  readonly call: "usage";
  readonly server: number;
  readonly user: string;
  readonly usages: readonly {
    readonly group: number;
    readonly dayUsed: number;
    readonly windowUsed: number;
    readonly reserved: number;
    readonly running: number;
  }[];
}
