/** Bytes that arrive in pieces. */
export interface Collector {
  /** In bytes. */
  readonly length: number;
  add(piece: Uint8Array): void;
  /** Returns all bytes so far. The buffer is valid until the next `add`. */
  bytes(): Buffer;
  /** Removes the first bytes. */
  drop(count: number): void;
}

/** A larger first piece is not copied: most bodies are one piece. */
const copiedBytes = 4096;

/** Collects pieces in one buffer of at most twice their size, however small the pieces are. */
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
