import { randomUUID } from "node:crypto";
import { setTimeout as wait } from "node:timers/promises";
import { type Client, Code, ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { QuotaService } from "#gen/tollgate/v1/lease_pb.js";

/** A server that callers know: its address changes when it is replaced. */
export interface Replica {
  url: string;
}

export interface Setup {
  readonly replicas: readonly Replica[];
  /** Tokens of an administrator and of a planner. */
  readonly admin: string;
  readonly planner: string;
  readonly password: string;
  /** Users with quotas of each of the methods. */
  readonly usernames: readonly string[];
  /** Numbers of Service.Name and Method.Group: names differ between releases, numbers do not. */
  readonly methods: readonly { readonly service: number; readonly methodGroup: number }[];
}

export interface Load {
  /** The number of calls that have succeeded, by kind and by address. */
  readonly calls: ReadonlyMap<string, number>;
  readonly callsByUrl: ReadonlyMap<string, number>;
  /** How often a call was repeated because a server was UNAVAILABLE, and the longest time until it succeeded. */
  readonly repeated: { count: number; longestMs: number };
  /** Calls that failed with another code than UNAVAILABLE, or were UNAVAILABLE for too long. */
  readonly failures: readonly string[];
  /** The maximum of leases that a user held at once, by user and method, as the callers saw it. */
  readonly maxHeld: ReadonlyMap<string, number>;
  /** How many acquires were refused for a limit. */
  refusals(): number;
  /** Resolves when this many more calls have succeeded. */
  passed(calls: number): Promise<void>;
  /** Ends the running operations. */
  stop(): Promise<void>;
}

/** The client library retries as long. */
const retryForMs = 60_000;

/** Calls both replicas at random until it is stopped. A call is repeated only if it is UNAVAILABLE, on any replica. */
export function startLoad(setup: Setup, callers: number): Load {
  const calls = new Map<string, number>();
  const callsByUrl = new Map<string, number>();
  const failures: string[] = [];
  const held = new Map<string, number>();
  const maxHeld = new Map<string, number>();
  const repeated = { count: 0, longestMs: 0 };
  let refusals = 0;
  const stopping = new AbortController();

  /** @returns undefined when the call has failed, which is recorded */
  async function attempt<Answer>(
    kind: string,
    call: (replica: Replica) => Promise<Answer>,
  ): Promise<Answer | undefined> {
    const startedMs = performance.now();
    for (;;) {
      const replica = pick(setup.replicas);
      const { url } = replica;
      try {
        const answer = await call(replica);
        calls.set(kind, (calls.get(kind) ?? 0) + 1);
        callsByUrl.set(url, (callsByUrl.get(url) ?? 0) + 1);
        return answer;
      } catch (thrown) {
        const error = ConnectError.from(thrown);
        const takenMs = performance.now() - startedMs;
        if (!isUnavailable(error) || takenMs > retryForMs) {
          failures.push(
            `${kind} at ${url}: ${error.message} ${error.cause instanceof Error ? error.cause.message : ""}`,
          );
          return undefined;
        }
        repeated.count += 1;
        repeated.longestMs = Math.max(repeated.longestMs, Math.round(takenMs));
        await wait(20 + Math.random() * 80);
      }
    }
  }

  function hold(key: string, change: 1 | -1): void {
    const now = (held.get(key) ?? 0) + change;
    held.set(key, now);
    maxHeld.set(key, Math.max(maxHeld.get(key) ?? 0, now));
  }

  async function calculate(): Promise<void> {
    const method = pick(setup.methods);
    const username = pick(setup.usernames);
    const key = `${username} ${method.service} ${method.methodGroup}`;
    const points = 1 + Math.floor(Math.random() * 9);
    // Longer than any call takes: a lease that the callers hold must not expire.
    const request = { ...method, username, points, operationId: randomUUID() as string, ttlSeconds: 600 };
    const leaseId = await attempt("acquire", async (replica) => {
      try {
        return (await plannerOf(replica, setup).acquireQuota(request)).lease?.leaseId;
      } catch (error) {
        if (ConnectError.from(error).code !== Code.ResourceExhausted) throw error;
        refusals += 1;
        return undefined;
      }
    });
    if (leaseId === undefined) return;
    hold(key, 1);
    if (Math.random() < 0.5) await wait(Math.random() * 50);
    if (Math.random() < 0.4) await attempt("renew", (replica) => plannerOf(replica, setup).renewLease({ leaseId }));
    hold(key, -1);
    if (Math.random() < 0.2) {
      await attempt("release", (replica) => plannerOf(replica, setup).releaseLease({ leaseId }));
    } else {
      const settlement = { leaseId, points: Math.max(0, points - 2), pointKeys: [BigInt(points)] };
      await attempt("settle", (replica) => plannerOf(replica, setup).settleLease(settlement));
    }
  }

  const http = (kind: string, method: string, path: string, body?: object | string) =>
    attempt(kind, ({ url }) => callHttp(url, { method, path, token: setup.admin, body }));

  async function administer(): Promise<void> {
    const username = `user_${randomUUID().replaceAll("-", "")}`;
    // No points: release 1.0 stores that as null.
    const services = [{ service: 11, methods: [{ method_group: 11, max_concurrent_execution: 4 }] }];
    const user = { username, company_key: "company_1", enabled: true, timezone: 3 };
    await http("create user", "POST", "/admin/users", { ...user, password: setup.password, roles: [1, 4] });
    await http("set quotas", "PUT", `/admin/quotas/${username}`, { services });
    await http("read quotas", "GET", `/admin/quotas/${username}`);
    await http("update user", "PUT", "/admin/users", { ...user, company_key: "company_2", roles: [4] });
    await http("read user", "GET", `/admin/users/${username}`);
    await http("list users", "GET", `/admin/users?filter=${username}&limit=10`);
    await http("delete user", "DELETE", `/admin/users/${username}`);
  }

  async function read(): Promise<void> {
    const username = pick(setup.usernames);
    await http("read statistics", "GET", `/admin/statistics?username=${username}`);
    await http("list audit", "GET", `/admin/audit?username=${username}&limit=20`);
    await http("list changes", "GET", "/admin/audit?service_name=ADMIN&limit=20");
    await attempt("read usage", (replica) => plannerOf(replica, setup).getQuotaUsage({ username }));
  }

  async function login(): Promise<void> {
    const body = { username: pick(setup.usernames), password: setup.password };
    const answer = await attempt("login", ({ url }) =>
      callHttp(url, { method: "POST", path: "/admin/token/generation", body }),
    );
    if (answer === undefined) return;
    const { token } = JSON.parse(answer) as { token: string };
    await attempt("validate token", ({ url }) =>
      callHttp(url, { method: "POST", path: "/admin/token/validation", body: { token } }),
    );
  }

  async function exchangeData(): Promise<void> {
    const flow = pick(["INPUT", "OUTPUT"]);
    const path = `/admin/data/${randomUUID()}?data_flow_type=${flow}&data_flow_stage=1`;
    await http("upload", "PUT", `${path}&filename=plan.txt&username=${pick(setup.usernames)}`, randomUUID());
    await http("download", "GET", path);
  }

  const caller = async () => {
    while (!stopping.signal.aborted) {
      const dice = Math.random();
      if (dice < 0.8) await calculate();
      else if (dice < 0.86) await administer();
      else if (dice < 0.94) await read();
      else if (dice < 0.96) await login();
      else await exchangeData();
    }
  };
  const running = Promise.all(Array.from({ length: callers }, caller));
  const total = () => [...calls.values()].reduce((sum, count) => sum + count, 0);

  return {
    calls,
    callsByUrl,
    repeated,
    failures,
    maxHeld,
    refusals: () => refusals,
    async passed(count) {
      const from = total();
      while (total() < from + count) await Promise.race([wait(20), running]);
    },
    async stop() {
      stopping.abort();
      await running;
    },
  };
}

/** gRPC maps a refused stream to UNAVAILABLE. Connect's client does that except on some connections that are closing. */
function isUnavailable({ code, message }: ConnectError): boolean {
  return code === Code.Unavailable || message.includes("REFUSED_STREAM");
}

interface HttpCall {
  readonly method: string;
  readonly path: string;
  readonly token?: string;
  readonly body?: object | string | undefined;
}

/**
 * Returns the body of the answer.
 * @throws ConnectError UNAVAILABLE when the server is that, or cannot be reached; UNKNOWN for another status
 */
export async function callHttp(url: string, { method, path, token, body }: HttpCall): Promise<string> {
  const isText = typeof body === "string";
  const response = await fetch(`${url}${path}`, {
    method,
    headers: {
      ...(body !== undefined && { "content-type": isText ? "text/plain" : "application/json" }),
      ...(token !== undefined && { authorization: `Bearer ${token}` }),
    },
    ...(body !== undefined && { body: isText ? body : JSON.stringify(body) }),
  }).catch((error: unknown) => {
    throw new ConnectError(String(error), Code.Unavailable);
  });
  const text = await response.text();
  if (response.ok) return text;
  throw new ConnectError(`${response.status} ${text}`, response.status === 503 ? Code.Unavailable : Code.Unknown);
}

const planners = new WeakMap<Replica, { readonly url: string; readonly client: Client<typeof QuotaService> }>();

/** Returns the client of a replica. A client keeps its connection. */
function plannerOf(replica: Replica, { planner }: Setup): Client<typeof QuotaService> {
  const known = planners.get(replica);
  if (known?.url === replica.url) return known.client;
  const transport = createGrpcTransport({
    baseUrl: replica.url,
    interceptors: [
      (next) => (request) => {
        request.header.set("authorization", `Bearer ${planner}`);
        return next(request);
      },
    ],
  });
  const client = createClient(QuotaService, transport);
  planners.set(replica, { url: replica.url, client });
  return client;
}

function pick<Item>(items: readonly Item[]): Item {
  return items[Math.floor(Math.random() * items.length)] as Item;
}
