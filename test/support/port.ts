import { once } from "node:events";
import { createServer, type Server } from "node:net";

/**
 * By default, Linux gives ports from 32,768 on to connections and to listeners without a port of their own: a port of that
 * range that is free now may be taken before a program listens on it.
 */
const range = { first: 10_000, end: 32_000 };
/** The first port of a block marks its process; the others are given out. */
const blockLength = 40;

let block: Promise<Server> | undefined;
let given = 0;

/** Returns a free port of loopback. No other process of a test gets it, and this one not again before 38 others. */
export async function freePort(): Promise<number> {
  block ??= reserveBlock();
  const first = portOf(await block);
  for (let tried = 1; tried < blockLength; tried += 1) {
    const port = first + 1 + (given++ % (blockLength - 1));
    const probe = await listen(port);
    if (probe === undefined) continue;
    await new Promise((done) => probe.close(done));
    return port;
  }
  throw new Error(`all ports from ${first} to ${first + blockLength - 1} are in use`);
}

/** Listens on the first port of a block until this process ends. */
async function reserveBlock(): Promise<Server> {
  const blocks = (range.end - range.first) / blockLength;
  const start = Math.floor(Math.random() * blocks);
  for (let tried = 0; tried < blocks; tried += 1) {
    const server = await listen(range.first + ((start + tried) % blocks) * blockLength);
    if (server !== undefined) return server.unref();
  }
  throw new Error(`other processes have all ports from ${range.first} to ${range.end - 1}`);
}

/** Returns undefined if the port is in use. */
async function listen(port: number): Promise<Server | undefined> {
  const server = createServer().listen(port, "127.0.0.1");
  try {
    await once(server, "listening");
    return server;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EADDRINUSE") throw error;
    return undefined;
  }
}

function portOf(server: Server): number {
  const address = server.address();
  if (typeof address !== "object" || address === null) throw new Error("the block of ports is not reserved");
  return address.port;
}
