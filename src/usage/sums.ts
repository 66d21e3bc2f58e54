import { Method_Group, Service_Name } from "#gen/tollgate/v1/tracedata_pb.js";
import type { UsageRow } from "./store.ts";

export interface UsageTotal {
  requests: number;
  points: number;
  uniquePoints: number;
}

/** A range of adjacent rows of a sheet. */
export interface RowRange {
  readonly sheet: string;
  readonly first: number;
  last: number;
}

/** The usage of a user while in a company, and the rows of its details. */
export interface UserSum {
  readonly username: string;
  readonly companyKey: string;
  readonly total: UsageTotal;
  readonly rows: RowRange[];
}

export interface DaySum {
  /** YYYY-MM-DD */
  readonly date: string;
  readonly total: UsageTotal;
  /** By service and method group. */
  readonly points: ReadonlyMap<string, number>;
}

/** Adds up the details by user, company, day and method group. */
export interface Sums {
  add(row: UsageRow, place: { readonly sheet: string; readonly row: number }): void;
  /** In the order of the details. */
  users(): UserSum[];
  /** Sorted. */
  companies(): { companyKey: string; total: UsageTotal }[];
  /** Sorted. */
  days(): DaySum[];
  /** The names of all services and method groups that occur, sorted. */
  methods(): string[];
}

/** Creates the sums of a report, all empty. */
export function createSums(): Sums {
  const users = new Map<string, UserSum>();
  const companies = new Map<string, { companyKey: string; total: UsageTotal }>();
  const days = new Map<string, { date: string; total: UsageTotal; points: Map<string, number> }>();
  const methods = new Set<string>();

  return {
    add(row, place) {
      const { username, company_key: companyKey, user_id, date } = row;
      const user = getOrCreate(users, `${user_id} ${companyKey}`, () => ({
        username,
        companyKey,
        total: zero(),
        rows: [],
      }));
      addTo(user.total, row);
      extend(user.rows, place);
      addTo(getOrCreate(companies, companyKey, () => ({ companyKey, total: zero() })).total, row);
      const day = getOrCreate(days, date, () => ({ date, total: zero(), points: new Map() }));
      addTo(day.total, row);
      const method = `${Service_Name[row.service]} ${Method_Group[row.method_group]}`;
      methods.add(method);
      day.points.set(method, (day.points.get(method) ?? 0) + row.points);
    },
    users: () => [...users.values()],
    companies: () => sorted(companies),
    days: () => sorted(days),
    methods: () => [...methods].toSorted(),
  };
}

function zero(): UsageTotal {
  return { requests: 0, points: 0, uniquePoints: 0 };
}

function addTo(total: UsageTotal, { requests, points, unique_points }: UsageRow): void {
  total.requests += requests;
  total.points += points;
  total.uniquePoints += unique_points;
}

function extend(rows: RowRange[], { sheet, row }: { readonly sheet: string; readonly row: number }): void {
  const last = rows.at(-1);
  if (last?.sheet === sheet && last.last === row - 1) last.last = row;
  else rows.push({ sheet, first: row, last: row });
}

function getOrCreate<Value>(map: Map<string, Value>, key: string, make: () => Value): Value {
  const value = map.get(key) ?? make();
  map.set(key, value);
  return value;
}

function sorted<Value>(map: ReadonlyMap<string, Value>): Value[] {
  return [...map].toSorted(([left], [right]) => (left < right ? -1 : 1)).map(([, value]) => value);
}
