import { durationMs } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError } from "@connectrpc/connect";
import { RetryInfoSchema } from "#gen/google/rpc/error_details_pb.js";

/** Time and randomness, injected so that tests do not wait. */
export interface Clock {
  /** Milliseconds. Only differences are used. */
  now(): number;
  /** Resolves after the time, or when the signal is aborted. */
  wait(milliseconds: number, signal: AbortSignal): Promise<void>;
  /** Returns 0 until before 1, for jitter. */
  random(): number;
}

export const systemClock: Clock = {
  now: () => performance.now(),
  wait: (milliseconds, signal) =>
    new Promise((resolve) => {
      if (signal.aborted) return resolve();
      const end = () => {
        clearTimeout(timer);
        signal.removeEventListener("abort", end);
        resolve();
      };
      const timer = setTimeout(end, milliseconds);
      signal.addEventListener("abort", end);
    }),
  random: Math.random,
};

export interface RetryOptions {
  readonly clock: Clock;
  /** Aborts the retries. */
  readonly signal: AbortSignal;
  /** How long transport errors are retried, from the first call. */
  readonly retryForMs: number;
  /** How long refusals with RetryInfo are retried, from the first call. */
  readonly maxWaitMs: number;
}

const backoffMs = { first: 100, most: 5000 };

/**
 * Calls until the service answers. Retries transport errors with exponential backoff and jitter, and refusals after the
 * delay of their RetryInfo.
 * @throws the last error when the time is over, or at once when a retry cannot help; the reason of the signal when it is
 * aborted
 */
export async function retrying<Answer>(
  call: () => Promise<Answer>,
  { clock, signal, retryForMs, maxWaitMs }: RetryOptions,
): Promise<Answer> {
  const startedMs = clock.now();
  for (let attempt = 0; ; attempt += 1) {
    signal.throwIfAborted();
    try {
      return await call();
    } catch (error) {
      signal.throwIfAborted();
      const retryInfo = retryInfoMs(error);
      const isTransport = isTransportError(error);
      if (!isTransport && (retryInfo === undefined || ConnectError.from(error).code !== Code.ResourceExhausted))
        throw error;
      const backoff = Math.min(backoffMs.first * 2 ** attempt, backoffMs.most) * (0.5 + clock.random() / 2);
      const delayMs = isTransport ? Math.max(retryInfo ?? 0, backoff) : (retryInfo ?? 0);
      const limitMs = isTransport ? retryForMs : maxWaitMs;
      if (clock.now() - startedMs + delayMs > limitMs) throw error;
      await clock.wait(delayMs, signal);
    }
  }
}

/** Codes of broken connections, timeouts and proxies. Errors of the service itself have details. */
const transportCodes: readonly Code[] = [
  Code.Aborted,
  Code.Canceled,
  Code.DataLoss,
  Code.Internal,
  Code.ResourceExhausted,
  Code.Unknown,
];

/** Whether the call may have failed in transport, so that a retry may succeed. The service may have executed it. */
function isTransportError(error: unknown): boolean {
  const { code, details } = ConnectError.from(error);
  if (code === Code.Unavailable || code === Code.DeadlineExceeded) return true;
  return details.length === 0 && transportCodes.includes(code);
}

function retryInfoMs(error: unknown): number | undefined {
  const delay = ConnectError.from(error).findDetails(RetryInfoSchema)[0]?.retryDelay;
  return delay && durationMs(delay);
}
