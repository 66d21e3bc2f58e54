import type { Knex } from "knex";
import type { Day, Micros } from "./calendar.ts";
import type { Action } from "./records.ts";
import type { Threshold } from "./thresholds.ts";

/** The limits of a method group on a day, the days of its date window, and thresholds. */
export interface DayLimits {
  readonly pointsPerDay: number | undefined;
  readonly pointsPerDateWindow: number | undefined;
  readonly window: { readonly from: Day; readonly to: Day };
  /** Those that the API has set, of the user or the company. Undefined when the setting decides. */
  readonly thresholds?: readonly Threshold[] | undefined;
}

/** A method group of a user on a day. */
export interface MeterDay {
  readonly userId: number;
  readonly username: string;
  /** Numbers of Service.Name and Method.Group. */
  readonly service: number;
  readonly methodGroup: number;
  readonly day: Day;
}

/** Points that were charged, and how many of them this transaction charges. */
export interface Charged {
  readonly total: number;
  readonly added: number;
}

/** The points that a transaction charges on one day of a method group. */
export interface Charge extends MeterDay {
  readonly companyKey: string;
  readonly limits: DayLimits;
  readonly ofDay: Charged;
  readonly ofWindow: Charged;
  /** The time and tracecode of a settlement of the charge. */
  readonly timeMicros: Micros;
  readonly tracecode: string;
}

/** Writes an alert when a transaction charges so many points that a threshold of a limit is reached. */
export interface AlertWriter {
  /** Returns the limits that apply, or undefined if there are none. Call it before the transaction begins. */
  limitsOf(of: MeterDay): Promise<DayLimits | undefined>;
  /** Writes alerts in the transaction that charges the points. Returns their actions for the audit log. */
  write(transaction: Knex.Transaction, charges: readonly Charge[]): Promise<Action[]>;
  /** Call it after the commit of a transaction that has written alerts. */
  scheduleDelivery(): void;
}
