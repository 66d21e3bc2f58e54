/** Bytes that come in pieces. */
export interface Collector {
  /** How many bytes there are. */
  readonly length: number;
  add(piece: Uint8Array): void;
  /** All bytes so far; valid until the next piece. */
  bytes(): Buffer;
  /** Removes the first bytes. */
  drop(count: number): void;
}

/** A larger piece that comes first is kept as it is: most bodies are one piece. */
const copiedBytes = 4096;

/** Collects pieces in one buffer: it takes at most twice the memory that the bytes need, however small the pieces are. */
export function createCollector(): Collector {
  let buffer: Buffer = Buffer.alloc(0);
  let length = 0;
  return {
    get length() {
      return length;
    },
    add(piece) {
      if (length === 0 && piece.length > copiedBytes) {
        buffer = Buffer.from(piece.buffer, piece.byteOffset, piece.byteLength);
      } else {
        const needed = length + piece.length;
        if (needed > buffer.length) {
          const larger = Buffer.allocUnsafe(length === 0 ? needed : 2 * needed);
          buffer.copy(larger, 0, 0, length);
          buffer = larger;
        }
        buffer.set(piece, length);
      }
      length += piece.length;
    },
    bytes: () => buffer.subarray(0, length),
    drop(count) {
      buffer = buffer.subarray(count);
      length -= count;
    },
  };
}
