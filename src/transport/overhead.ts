/**
 * HTTP/2 has frames that are neither a call nor a body: PING, SETTINGS, WINDOW_UPDATE, PRIORITY, unknown types, padding, and
 * header blocks that are refused. Each is cheap, and Node reports few of them. So their bytes are bounded: those that a
 * connection has sent beyond its calls and bodies.
 */

/** The longest header block of a call. */
const callBytes = 16_384;
/** The head of a frame has nine bytes. Bodies whose pieces average less than sixteen bytes are ended elsewhere. */
const bytesPerBodyByte = 2;
/** A download at 1 Gbit/s makes its client send about 0.2 MB/s of WINDOW_UPDATE. */
const bytesPerMs = 1_048;
const burstBytes = 1_048_576;

/** The bytes and calls that a connection has sent since it was opened. */
export interface ReceivedBytes {
  readonly total: number;
  readonly bodies: number;
  readonly calls: number;
}

/** Returns a function to call at intervals. It returns whether the connection has sent too many other bytes. */
export function createOverheadLimit(): (received: ReceivedBytes, nowMs: number) => boolean {
  let last: ReceivedBytes = { total: 0, bodies: 0, calls: 0 };
  let lastMs = performance.now();
  let excessBytes = 0;
  return (received, nowMs) => {
    const useful = (received.bodies - last.bodies) * bytesPerBodyByte + (received.calls - last.calls) * callBytes;
    excessBytes += received.total - last.total - useful - (nowMs - lastMs) * bytesPerMs;
    excessBytes = Math.max(0, excessBytes);
    last = received;
    lastMs = nowMs;
    return excessBytes > burstBytes;
  };
}
