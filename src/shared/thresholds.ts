/** A threshold of a limit, as the setting and the API have it: `80%` of the limit, or a number of points. */
export interface Threshold {
  readonly text: string;
  readonly percent: number | undefined;
  /** Points, unless `percent` is set. */
  readonly points: number;
}

export interface Thresholds {
  readonly everyone: readonly Threshold[];
  readonly companies: ReadonlyMap<string, readonly Threshold[]>;
  readonly users: ReadonlyMap<string, readonly Threshold[]>;
}

/** The rule of the setting, for its error. */
export const thresholdRule =
  "must be thresholds such as 80%,95%,100% or 5000 (points), or off. Lists such as company:NAME=50% and user:NAME=off may follow, separated by spaces";

/** Returns a threshold from its text, which must have the form of the setting: `80%`, or a number of points. */
export function toThreshold(text: string): Threshold {
  const number = Number.parseInt(text, 10);
  return text.endsWith("%") ? { text, percent: number, points: 0 } : { text, percent: undefined, points: number };
}

/** Parses `80%,95%,100% company:acme=50%,5000 user:alice=off`. Returns undefined when the text has another form. */
export function parseThresholds(text: string): Thresholds | undefined {
  const [first = "", ...others] = text.trim().split(/\s+/);
  const everyone = parseList(first);
  if (everyone === undefined) return undefined;
  const named = { company: new Map<string, readonly Threshold[]>(), user: new Map<string, readonly Threshold[]>() };
  for (const other of others) {
    const [, kind, name = "", list = ""] = /^(company|user):(\w+)=(.+)$/.exec(other) ?? [];
    const thresholds = parseList(list);
    if (kind === undefined || thresholds === undefined) return undefined;
    named[kind as keyof typeof named].set(name, thresholds);
  }
  return { everyone, companies: named.company, users: named.user };
}

/** Returns the thresholds of a user: its own, or else those of its company, or else those of everyone. */
export function thresholdsOf(thresholds: Thresholds, username: string, companyKey: string): readonly Threshold[] {
  return thresholds.users.get(username) ?? thresholds.companies.get(companyKey) ?? thresholds.everyone;
}

/** Returns the points at which a threshold of a limit is reached. */
export function pointsOf({ percent, points }: Threshold, limit: number): number {
  return percent === undefined ? points : Math.ceil((limit * percent) / 100);
}

function parseList(list: string): readonly Threshold[] | undefined {
  if (list === "off") return [];
  const items = list.split(",");
  if (!items.every((item) => /^[1-9]\d{0,2}%$|^[1-9]\d{0,14}$/.test(item))) return undefined;
  return [...new Set(items)].map(toThreshold);
}
