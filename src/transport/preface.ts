import type { Socket } from "node:net";

/** The first bytes of every HTTP/2 connection (RFC 9113, 3.4). */
const preface = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");

/**
 * Reads enough of a connection to tell HTTP/2 from HTTP/1.1, puts the bytes back, and calls `decide`. It does not call
 * `decide` when the connection ends before.
 * @param timeoutMs after it, an unidentified connection is destroyed
 */
export function onPreface(socket: Socket, timeoutMs: number, decide: (isHttp2: boolean) => void): void {
  let seen = Buffer.alloc(0);
  const timer = setTimeout(() => socket.destroy(), timeoutMs);
  socket.on("error", ignore);
  socket.once("close", stop);
  socket.on("readable", read);

  function read(): void {
    const chunk = socket.read() as Buffer | null;
    if (chunk === null) return;
    seen = Buffer.concat([seen, chunk]);
    const length = Math.min(seen.length, preface.length);
    const isPrefix = seen.subarray(0, length).equals(preface.subarray(0, length));
    if (isPrefix && length < preface.length) return;
    stop();
    socket.unshift(seen);
    decide(isPrefix);
  }

  function stop(): void {
    clearTimeout(timer);
    socket.removeListener("readable", read);
    socket.removeListener("close", stop);
    socket.removeListener("error", ignore);
  }
}

/** A connection that breaks before its first bytes needs no handling. */
function ignore(): void {}
