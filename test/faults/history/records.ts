/** The history of a run, one JSON line per record. Callers write it and the checker reads it: they share nothing else. */
export type Line =
  | AcquireLine
  | EndLine
  | RecordLine
  | ChangeLine
  | ClockLine
  | FaultLine
  | UsageLine
  | { readonly call: "start"; readonly baseMs: number; readonly isCommit: boolean };

/** The times at which a call was sent and answered, in milliseconds of the callers' steady clock. */
interface Timed {
  readonly sent: number;
  readonly answered: number;
}

/** A failed call. Without a reason the call may have taken effect. */
export interface Failure {
  readonly code: string;
  /** From the details of the error. Every refusal has a reason. */
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

/** A call on a granted lease. */
export interface EndLine extends Timed {
  readonly call: "renew" | "settle" | "release";
  readonly server: number;
  readonly user: string;
  readonly group: number;
  readonly op: string;
  readonly lease: string;
  /** The points of a settlement. */
  readonly points?: number;
  /** The expiry that the answer states, by Redis' clock. */
  readonly expire?: number;
  /** The lease that the answer names. */
  readonly answer?: string;
  readonly failure?: Failure;
}

/** Reported calculations without a lease. */
export interface RecordLine extends Timed {
  readonly call: "record";
  readonly server: number;
  readonly actions: readonly { readonly tracecode: string; readonly user: string; readonly points: number }[];
  readonly failure?: Failure;
}

export interface Limits {
  readonly perRequest: number;
  readonly perDay: number;
  /** Undefined means unlimited. */
  readonly perWindow?: number;
  readonly running: number;
}

/** A change of a user. The changes of one user are sent sequentially. */
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

/** Moves the clock of Redis to this distance ahead of the callers' steady clock. */
export interface ClockLine extends Timed {
  readonly call: "clock";
  readonly offsetMs: number;
}

/** `answered`: all servers serve again. */
export interface FaultLine extends Timed {
  readonly call: "fault";
  readonly kind: string;
}

/** The counters of a user at the end. */
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
