/** Limits that are no settings, and that settings are checked against. */

/** How long a transaction may wait for us between two statements, before PostgreSQL ends it and frees its locks. */
export const idleInTransactionTimeoutMs = 60_000;
/** How long an HTTP/1.1 request may take as a whole. */
export const requestTimeoutMs = 3_600_000;
/** A megabit a second: the pace that an upload may not fall behind for long. */
export const leastUploadBytesPerSecond = 131_072;
