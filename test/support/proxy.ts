import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";

/** A TCP proxy in front of one server that injects network faults. */
export interface Proxy {
  readonly port: number;
  /** The address of a server as seen through this proxy: host and port are replaced. */
  url(direct: string): string;
  /** Delays every chunk in both directions, in order. */
  delay(milliseconds: number): void;
  /** Resets every connection. New ones work. */
  cut(): void;
  /** Half-closes every connection towards the server: the client's side stays open for reading. */
  halfClose(): void;
  /**
   * Drops every chunk in both directions without closing. "established": on the present connections only.
   * "all": on new connections too, which are accepted and stay silent.
   */
  blackHole(which: "established" | "all"): void;
  /** Forwards requests and drops responses on the present connections. New connections work. */
  loseAnswers(): void;
  /** Resets every connection and refuses new ones, until restore(). */
  refuse(): Promise<void>;
  /** Ends all faults. Connections that lost chunks are reset, so that both ends notice. */
  restore(): Promise<void>;
  /** The number of open connections. */
  connections(): number;
  close(): Promise<void>;
}

interface Link {
  readonly client: Socket;
  readonly server: Socket;
  /** The directions whose chunks are dropped. */
  readonly lost: { requests: boolean; answers: boolean };
}

/** Listens on a free port of loopback and forwards to the address. */
export async function startProxy(to: { readonly host: string; readonly port: number }): Promise<Proxy> {
  const links = new Set<Link>();
  let delayMs = 0;
  let isSilent = false;

  const listener = createServer({ allowHalfOpen: true }, (client) => {
    const server = connect({ ...to, allowHalfOpen: true });
    const link: Link = { client, server, lost: { requests: isSilent, answers: isSilent } };
    links.add(link);
    forward(client, server, () => link.lost.requests);
    forward(server, client, () => link.lost.answers);
    const remove = () => {
      if (client.destroyed && server.destroyed) links.delete(link);
    };
    for (const socket of [client, server])
      socket
        .setNoDelay(true)
        .on("error", () => undefined)
        .on("close", remove);
  });
  await once(listener.listen(0, "127.0.0.1"), "listening");
  const { port } = listener.address() as AddressInfo;

  function forward(from: Socket, into: Socket, isLost: () => boolean): void {
    let held = 0;
    let last: Promise<unknown> = Promise.resolve();
    // Order holds when the delay ends: a chunk never overtakes a delayed one.
    const later = (work: () => void) => {
      if (delayMs === 0 && held === 0) return work();
      const due = performance.now() + delayMs;
      held += 1;
      const before = last;
      last = (async () => {
        await before;
        await new Promise((resolve) => setTimeout(resolve, Math.max(0, due - performance.now())));
        held -= 1;
        work();
      })();
    };
    from.on("data", (piece) => {
      if (isLost()) return;
      later(() => {
        if (into.destroyed || into.writableEnded || isLost()) return;
        // Back pressure: a slow reader must not fill this process.
        if (!into.write(piece)) {
          from.pause();
          into.once("drain", () => from.resume());
        }
      });
    });
    from.on("end", () => later(() => isLost() || into.end()));
    // A close on one side closes the other; a silent link keeps both open.
    from.on("close", () => isLost() || into.destroy());
  }

  function cut(): void {
    for (const { client, server, lost } of links) {
      Object.assign(lost, { requests: false, answers: false });
      client.resetAndDestroy();
      server.destroy();
    }
    links.clear();
  }

  async function refuse(): Promise<void> {
    const closed = listener.listening ? once(listener, "close") : undefined;
    if (closed !== undefined) listener.close();
    cut();
    await closed;
  }

  return {
    port,
    url(direct) {
      const url = new URL(direct);
      url.hostname = "127.0.0.1";
      url.port = String(port);
      return url.href;
    },
    delay: (milliseconds) => {
      delayMs = milliseconds;
    },
    cut,
    halfClose: () => {
      for (const { server } of links) server.end();
    },
    blackHole(which) {
      isSilent = which === "all";
      for (const { lost } of links) Object.assign(lost, { requests: true, answers: true });
    },
    loseAnswers: () => {
      for (const { lost } of links) lost.answers = true;
    },
    refuse,
    async restore() {
      delayMs = 0;
      isSilent = false;
      for (const link of links) {
        if (!link.lost.requests && !link.lost.answers) continue;
        link.client.resetAndDestroy();
        link.server.destroy();
        links.delete(link);
      }
      if (!listener.listening) await once(listener.listen(port, "127.0.0.1"), "listening");
    },
    connections: () => links.size,
    async close() {
      await refuse();
    },
  };
}

/** Returns the host and port of a PostgreSQL or Redis URL. */
export function addressOf(url: string): { host: string; port: number } {
  const { hostname, port } = new URL(url);
  return { host: hostname, port: Number(port) };
}
