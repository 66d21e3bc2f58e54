import pLimit from "p-limit";
import { conflict, unavailable } from "../../shared/errors.ts";
import type { Subject } from "../limits/subjects.ts";
import {
  createUsagePoll,
  type UsagePollOptions,
  type WatchedMeter,
  type WatchedUser,
  type Watcher,
} from "./usage-poll.ts";

/** The users of a watch, as the caller may see them now. */
export interface WatchScope {
  readonly usernames: readonly string[];
  readonly isVisible: (subject: Subject) => boolean;
  /** The error when no user is visible. Undefined if a watch may be without users. */
  readonly missing?: Error | undefined;
}

export interface Watch {
  readonly callerId: number;
  readonly callerCompany: string;
  readonly signal: AbortSignal;
  /** Called at the start, after a change of the caller or of a watched user, and every 30 s. Throws to end the watch. */
  readonly resolve: (maxUsers: number) => Promise<WatchScope>;
}

/** Usage that has changed. `more` follows at once if the flag is set. */
export interface UsageUpdate {
  readonly usages: readonly { readonly meter: WatchedMeter; readonly isGone: boolean }[];
  readonly more: boolean;
}

/** The streams of live usage of one server. */
export interface UsageWatches {
  /**
   * Yields all usage of a watch, then what changes, at most once a second, and an empty update after 30 s without a change.
   * A slow reader gets the latest state of each meter. Ends by throwing.
   * @throws UNAVAILABLE when the server stops, after ten minutes, when the counters do not answer, and when too many
   * streams are open; FAILED_PRECONDITION WATCH_TOO_LARGE; the errors of `resolve`
   */
  open(watch: Watch): AsyncGenerator<UsageUpdate>;
  /** Checks the streams of these callers and of these watched users again. */
  invalidate(userIds: readonly number[] | "all"): void;
  /** Ends every stream, and refuses others. */
  stop(): void;
}

export interface UsageWatchOptions extends UsagePollOptions {
  readonly limits?: Partial<WatchLimits>;
  /** Returns 0 until before 1. */
  readonly random?: () => number;
}

export interface WatchLimits {
  readonly intervalMs: number;
  /** How often a stream is checked without a notice, and the longest time between its updates. */
  readonly checkMs: number;
  readonly maxAgeMs: number;
  readonly streamsOfCaller: number;
  /** Streams of all users of a company: it leaves room to others. */
  readonly streamsOfCompany: number;
  readonly streams: number;
  readonly usersOfStream: number;
  readonly metersOfStream: number;
  readonly meters: number;
}

export const defaultWatchLimits: WatchLimits = {
  intervalMs: 1000,
  checkMs: 30_000,
  maxAgeMs: 600_000,
  streamsOfCaller: 20,
  streamsOfCompany: 500,
  streams: 1000,
  usersOfStream: 1000,
  metersOfStream: 5000,
  meters: 10_000,
};
/** The most usages of one message. */
const maxUpdate = 500;
/** Streams that are checked at once, and users that are read at once. */
const concurrency = 4;
const retryMs = 1000;

interface Stream {
  readonly watch: Watch;
  readonly openedMs: number;
  readonly watcher: Watcher;
  readonly users: Set<WatchedUser>;
  /** Meters to send. True: without its state, because the caller may not see it any more. */
  readonly pending: Map<WatchedMeter, boolean>;
  /** Meters that the caller has seen and can still see. */
  readonly sent: Set<WatchedMeter>;
  checkedMs: number;
  sentMs: number;
  error: unknown;
  wake: () => void;
}

/** Creates the streams of live usage of this server. `random` spreads retry delays. */
export function createUsageWatches({ random = Math.random, ...options }: UsageWatchOptions): UsageWatches {
  const limits = { ...defaultWatchLimits, ...options.limits };
  const poll = createUsagePoll(options);
  const streams = new Set<Stream>();
  const checking = pLimit(concurrency);
  const reading = pLimit(concurrency);
  let timer: NodeJS.Timeout | undefined;
  let isStopped = false;

  const busy = (message: string) => unavailable("TOO_BUSY", message, retryMs * (1 + random()));
  const ended = () => unavailable("WATCH_ENDED", "the server ends the stream: open it again", retryMs * random());

  function admit({ callerId, callerCompany }: Watch): void {
    if (isStopped) throw ended();
    if (streams.size >= limits.streams) throw busy("too many streams of usage are open");
    const own = [...streams].filter(({ watch }) => watch.callerId === callerId).length;
    if (own >= limits.streamsOfCaller) throw busy(`you have ${own} open streams of usage: close one first`);
    const ofCompany = [...streams].filter(({ watch }) => watch.callerCompany === callerCompany).length;
    if (ofCompany >= limits.streamsOfCompany) throw busy("your company has too many open streams of usage");
  }

  /** Finds the users of a stream again, and reads those that are new. */
  async function check(stream: Stream): Promise<void> {
    stream.checkedMs = performance.now();
    const { usernames, isVisible, missing } = await stream.watch.resolve(limits.usersOfStream);
    if (usernames.length > limits.usersOfStream) throw tooLarge(`more than ${limits.usersOfStream} users`);
    const visible = new Set<WatchedUser>();
    const before = new Set(stream.users);
    const find = async (username: string): Promise<void> => {
      const user = await poll.watch(username, stream.watcher);
      if (user !== undefined && isVisible(user.subject) && streams.has(stream)) join(stream, user, visible);
      else if (user !== undefined && !stream.users.has(user)) poll.unwatch(user, stream.watcher);
    };
    await Promise.all(usernames.map((username) => reading(find, username)));
    for (const user of stream.users) if (!visible.has(user)) leave(stream, user);
    if (missing !== undefined && visible.size === 0) throw missing;
    const count = [...visible].reduce((sum, { meters }) => sum + meters.size, 0);
    if (count > limits.metersOfStream) throw tooLarge(`more than ${limits.metersOfStream} quotas`);
    // Only a stream with new users ends: what others watch is not its fault.
    const hasNew = [...visible].some((user) => !before.has(user));
    if (hasNew && poll.count() > limits.meters) throw busy("too many users are watched");
    await poll.readNew([...visible]);
  }

  function leave(stream: Stream, user: WatchedUser): void {
    poll.unwatch(user, stream.watcher);
    stream.users.delete(user);
    for (const meter of stream.pending.keys()) if (meter.user === user) stream.pending.delete(meter);
    // Meters that the caller has not seen stay unnamed: the user may belong to another company now.
    for (const meter of stream.sent) if (meter.user === user) stream.pending.set(meter, true);
  }

  function end(stream: Stream, error: unknown): void {
    stream.error ??= error;
    for (const user of stream.users) poll.unwatch(user, stream.watcher);
    stream.users.clear();
    stream.pending.clear();
    streams.delete(stream);
    stream.wake();
  }

  async function tick(): Promise<void> {
    const nowMs = performance.now();
    for (const stream of streams) if (nowMs - stream.openedMs >= limits.maxAgeMs) end(stream, ended());
    const due = [...streams].filter(({ checkedMs }) => nowMs - checkedMs >= limits.checkMs);
    await Promise.all(due.map((stream) => checking(() => check(stream)).catch((error: unknown) => end(stream, error))));
    await poll.readNext();
    for (const stream of streams) if (stream.pending.size > 0 || isQuiet(stream)) stream.wake();
  }

  const isQuiet = ({ sentMs }: Stream) => performance.now() - sentMs >= limits.checkMs;

  function schedule(): void {
    if (timer !== undefined || streams.size === 0) return;
    timer = setTimeout(() => {
      void tick().finally(() => {
        timer = undefined;
        schedule();
      });
    }, limits.intervalMs).unref();
  }

  async function* open(watch: Watch): AsyncGenerator<UsageUpdate> {
    admit(watch);
    const stream = createStream(watch, (error) => end(stream, error));
    streams.add(stream);
    const wake = () => stream.wake();
    watch.signal.addEventListener("abort", wake, { once: true });
    try {
      await check(stream);
      schedule();
      for (let isFirst = true; ; isFirst = false) {
        if (stream.error !== undefined) throw stream.error;
        if (watch.signal.aborted) return;
        if (isFirst || stream.pending.size > 0 || isQuiet(stream)) yield* updatesOf(stream);
        if (stream.error === undefined && !watch.signal.aborted) await woken(stream);
      }
    } finally {
      watch.signal.removeEventListener("abort", wake);
      end(stream, ended());
    }
  }

  return {
    open,
    invalidate(userIds) {
      poll.invalidate(userIds);
      const ids = userIds === "all" ? undefined : new Set(userIds);
      for (const stream of streams) if (ids?.has(stream.watch.callerId) !== false) stream.watcher.invalidated();
    },
    stop() {
      isStopped = true;
      clearTimeout(timer);
      for (const stream of streams) end(stream, ended());
    },
  };
}

/** Adds a user to a stream. What other streams have read of it is sent first. */
function join(stream: Stream, user: WatchedUser, visible: Set<WatchedUser>): void {
  visible.add(user);
  if (stream.users.has(user)) return;
  stream.users.add(user);
  for (const meter of user.meters.values()) if (meter.state !== undefined) stream.pending.set(meter, false);
}

function createStream(watch: Watch, failed: (error: unknown) => void): Stream {
  const nowMs = performance.now();
  const pending = new Map<WatchedMeter, boolean>();
  const stream: Stream = {
    watch,
    openedMs: nowMs,
    checkedMs: nowMs,
    sentMs: nowMs,
    watcher: {
      // The next tick checks it.
      invalidated: () => void (stream.checkedMs = Number.NEGATIVE_INFINITY),
      changed: (meter) => void pending.set(meter, false),
      failed,
    },
    users: new Set(),
    pending,
    sent: new Set(),
    error: undefined,
    wake: () => undefined,
  };
  return stream;
}

/** Yields what is pending, in parts. A meter that changes while the reader is slow is sent once, with its latest state. */
function* updatesOf(stream: Stream): Generator<UsageUpdate> {
  do {
    const part = [...stream.pending].slice(0, maxUpdate);
    for (const [meter, isGone] of part) {
      stream.pending.delete(meter);
      if (isGone || meter.state === undefined) stream.sent.delete(meter);
      else stream.sent.add(meter);
    }
    stream.sentMs = performance.now();
    yield { usages: part.map(([meter, isGone]) => ({ meter, isGone })), more: stream.pending.size > 0 };
  } while (stream.pending.size > 0);
}

function woken(stream: Stream): Promise<void> {
  return new Promise((resolve) => {
    stream.wake = resolve;
  });
}

function tooLarge(bound: string) {
  return conflict("WATCH_TOO_LARGE", `the company has ${bound}: watch its users one by one`);
}
