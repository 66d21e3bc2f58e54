/** A budget of time by which a transfer may fall behind a minimum rate in total, over all its pieces. */
export interface TransferDeadline {
  /** The remaining budget in milliseconds. */
  readonly leftMs: number;
  /** Charges a piece that took `tookMs`, and `expectedMs` at the minimum rate. A faster piece refills the budget up to its start. */
  spend(tookMs: number, expectedMs: number): void;
}

/** Creates a budget. `slackMs` is the most that the transfer may fall behind. */
export function createTransferDeadline(slackMs: number): TransferDeadline {
  let leftMs = slackMs;
  return {
    get leftMs() {
      return leftMs;
    },
    spend(tookMs, expectedMs) {
      leftMs = Math.min(slackMs, leftMs + expectedMs - tookMs);
    },
  };
}
