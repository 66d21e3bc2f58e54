import type { Counters } from "../counters/counters.ts";
import type { MeterState, QuotaLimits } from "../counters/engine.ts";
import { meterOf, methodKey, parseMethodKey, rulesOf, type Subject, type Subjects } from "../limits/subjects.ts";

/** A user whose usage streams of this server watch. */
export interface WatchedUser {
  readonly username: string;
  readonly userId: number;
  subject: Subject;
  /** By methodKey(). */
  readonly meters: Map<string, WatchedMeter>;
  readonly watchers: Set<Watcher>;
  /** By performance.now(). */
  loadedMs: number;
}

/** The usage of one service and method group. */
export interface WatchedMeter {
  readonly user: WatchedUser;
  readonly service: number;
  readonly methodGroup: number;
  /** The state at the last poll. Undefined before it, and when the user has no quota for the method any more. */
  state: MeterState | undefined;
}

export interface Watcher {
  /** Called when a user may have changed, and must be watched again to see it. */
  invalidated(): void;
  /** Called when the state of a meter has changed. */
  changed(meter: WatchedMeter): void;
  /** Called when a meter could not be read. */
  failed(error: unknown): void;
}

/** The usage of watched users. Streams that watch the same user share it. */
export interface UsagePoll {
  /** Adds a watcher to a user. Its quotas are at most six minutes old. Returns undefined when there is no such user. */
  watch(username: string, watcher: Watcher): Promise<WatchedUser | undefined>;
  /** Removes a watcher from a user. A user without watchers is forgotten. */
  unwatch(user: WatchedUser, watcher: Watcher): void;
  /** Makes the next watch() read the users again, and calls their watchers. */
  invalidate(userIds: readonly number[] | "all"): void;
  /** Reads the meters of the users that were never read. */
  readNew(users: readonly WatchedUser[]): Promise<void>;
  /** Reads the next meters, in turn. Failures go to the watchers. */
  readNext(): Promise<void>;
  /** The number of watched meters. */
  count(): number;
}

export interface UsagePollOptions {
  readonly subjects: Pick<Subjects, "byName">;
  readonly counters: Pick<Counters, "execute">;
  /** The quotas of days that have none. */
  readonly byDefault: readonly QuotaLimits[];
}

/** The most meters that readNext() reads: with more, each is read less often. */
const maxReads = 1000;
/** The meters of one round trip, so that decisions do not wait behind a long one. */
const batchSize = 100;
/** Notices of changes arrive at once. This bounds what a lost one does. */
const maxAgeMs = 300_000;

/** Creates the one reader of usage that all streams of a server share. It reads only users that are watched. */
export function createUsagePoll({ subjects, counters, byDefault }: UsagePollOptions): UsagePoll {
  const users = new Map<string, WatchedUser>();
  const usersById = new Map<number, WatchedUser>();
  let notices = 0;
  let nextMeter = 0;

  const listMeters = () => [...users.values()].flatMap(({ meters }) => [...meters.values()]);

  async function load(username: string): Promise<WatchedUser | undefined> {
    const known = users.get(username);
    if (known !== undefined && performance.now() - known.loadedMs < maxAgeMs) return known;
    const loadedMs = performance.now();
    const noticesBefore = notices;
    const subject = await subjects.byName(username);
    if (subject === undefined) return undefined;
    // Names can be used again after a user is deleted. The streams of the deleted user find another id.
    const { userId } = subject;
    const user: WatchedUser = usersById.get(userId) ?? {
      username,
      userId,
      subject,
      meters: new Map(),
      watchers: new Set(),
      loadedMs,
    };
    users.set(username, user);
    usersById.set(userId, user);
    // A notice during the read may be of this user: the next watch() reads it again.
    user.loadedMs = notices === noticesBefore ? loadedMs : Number.NEGATIVE_INFINITY;
    setSubject(user, subject);
    return user;
  }

  async function read(meters: readonly WatchedMeter[]): Promise<void> {
    const answers = await counters.execute(
      meters.map(({ user: { subject }, service, methodGroup }) => ({
        meter: meterOf(subject, service, methodGroup),
        rules: rulesOf(subject, service, methodGroup, byDefault),
        command: { kind: "usage" as const },
      })),
    );
    for (const [index, { meterState }] of answers.entries()) {
      const meter = meters[index] as WatchedMeter;
      // The quota may have been deleted during the read.
      if (meter.user.meters.get(methodKey(meter.service, meter.methodGroup)) !== meter) continue;
      const isChanged = meter.state === undefined || textOf(meter.state) !== textOf(meterState);
      meter.state = meterState;
      if (isChanged) for (const watcher of meter.user.watchers) watcher.changed(meter);
    }
  }

  return {
    async watch(username, watcher) {
      let user = await load(username);
      // The last watcher of the user may have left while this one waited.
      while (user !== undefined && users.get(username) !== user) user = await load(username);
      user?.watchers.add(watcher);
      return user;
    },
    unwatch(user, watcher) {
      user.watchers.delete(watcher);
      if (user.watchers.size > 0) return;
      if (users.get(user.username) === user) users.delete(user.username);
      if (usersById.get(user.userId) === user) usersById.delete(user.userId);
    },
    invalidate(userIds) {
      notices += 1;
      const named = userIds === "all" ? usersById.values() : userIds.flatMap((id) => usersById.get(id) ?? []);
      for (const user of named) {
        user.loadedMs = Number.NEGATIVE_INFINITY;
        for (const watcher of user.watchers) watcher.invalidated();
      }
    },
    async readNew(watched) {
      const unread = watched.flatMap(({ meters }) => [...meters.values()].filter(({ state }) => state === undefined));
      for (const batch of batchesOf(unread)) await read(batch);
    },
    async readNext() {
      const meters = listMeters();
      const start = nextMeter < meters.length ? nextMeter : 0;
      const due = meters.slice(start, start + maxReads);
      nextMeter = start + maxReads;
      for (const batch of batchesOf(due)) {
        await read(batch).catch((error: unknown) => {
          for (const watcher of new Set(batch.flatMap(({ user }) => [...user.watchers]))) watcher.failed(error);
        });
      }
    },
    count: () => [...users.values()].reduce((sum, { meters }) => sum + meters.size, 0),
  };
}

/** Takes over the quotas of a user: adds meters, and removes those without a quota. */
function setSubject(user: WatchedUser, subject: Subject): void {
  user.subject = subject;
  for (const [key, meter] of user.meters) {
    if (subject.quotas.has(key)) continue;
    user.meters.delete(key);
    meter.state = undefined;
    for (const watcher of user.watchers) watcher.changed(meter);
  }
  for (const key of subject.quotas.keys()) {
    if (!user.meters.has(key)) user.meters.set(key, { user, ...parseMethodKey(key), state: undefined });
  }
}

function batchesOf(meters: readonly WatchedMeter[]): (readonly WatchedMeter[])[] {
  const count = Math.ceil(meters.length / batchSize);
  return Array.from({ length: count }, (_none, index) => meters.slice(index * batchSize, (index + 1) * batchSize));
}

/** Two states with the same text are the same to a reader. */
function textOf({ nowMs: _now, ...state }: MeterState): string {
  return JSON.stringify(state);
}
