/** How far somebody we wait for may fall behind a steady pace, in all: each piece may be late, not every one. */
export interface TransferDeadline {
  /** What is left of it, in milliseconds. */
  readonly leftMs: number;
  /** A piece took so long that has its time by the pace: who is faster makes good for what was lost, and no more. */
  spend(tookMs: number, itsTimeMs: number): void;
}

export function createTransferDeadline(slackMs: number): TransferDeadline {
  let leftMs = slackMs;
  return {
    get leftMs() {
      return leftMs;
    },
    spend(tookMs, itsTimeMs) {
      leftMs = Math.min(slackMs, leftMs + itsTimeMs - tookMs);
    },
  };
}
