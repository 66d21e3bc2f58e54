import { connect } from "node:net";
import { type Client, Code, ConnectError, createClient, type Interceptor } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { ErrorInfoSchema } from "#gen/google/rpc/error_details_pb.js";
import { AuditService } from "#gen/tollgate/v1/audit_pb.js";
import { QuotaService } from "#gen/tollgate/v1/lease_pb.js";
import type { Failure } from "./records.ts";
import { adminPassword, type World } from "./world.ts";

export interface Planner {
  readonly quota: Client<typeof QuotaService>;
  readonly audit: Client<typeof AuditService>;
}

/** The timeout of every call. */
export const deadlineMs = 8000;
/** Longer than any run by any moved clock. */
const tokenSeconds = 31_000_000;

/**
 * A client of each server. A call that times out abandons its connection, which may be silent: the next call opens
 * another. Pings of connect-node would notice it earlier, but an error of an abandoned session ends this process.
 */
export function createPlanners(world: World, token: string): Planner[] {
  const authorized: Interceptor = (next) => (request) => {
    request.header.set("authorization", `Bearer ${token}`);
    return next(request);
  };
  return world.servers.map(({ url }) => {
    let planner = open();
    return {
      get quota() {
        return planner.quota;
      },
      get audit() {
        return planner.audit;
      },
    };

    function open(): Planner {
      const leaveSilent: Interceptor = (next) => async (request) => {
        try {
          return await next(request);
        } catch (error) {
          if (planner === opened && ConnectError.from(error).code === Code.DeadlineExceeded) planner = open();
          throw error;
        }
      };
      const opened = connectTo(url, [authorized, leaveSilent]);
      return opened;
    }
  });
}

function connectTo(url: string, interceptors: Interceptor[]): Planner {
  const transport = createGrpcTransport({
    baseUrl: url,
    interceptors,
    defaultTimeoutMs: deadlineMs,
    // Without this listener, a socket reset after its session is gone would end this process.
    nodeOptions: {
      createConnection: ({ hostname, port }) => connect(Number(port), hostname).on("error", () => undefined),
    },
  });
  return { quota: createClient(QuotaService, transport), audit: createClient(AuditService, transport) };
}

export function failureOf(error: unknown): Failure {
  const failure = ConnectError.from(error);
  const [info] = failure.findDetails(ErrorInfoSchema);
  return { code: Code[failure.code], reason: info?.reason ?? "", message: failure.rawMessage };
}

export interface HttpAnswer {
  /** The HTTP status, or 0 without a response. */
  readonly status: number;
  readonly body: string;
}

/** Calls the HTTP/JSON gateway of a server. */
export async function http(
  url: string,
  method: string,
  path: string,
  { token = "", body }: { token?: string; body?: object } = {},
): Promise<HttpAnswer> {
  const headers = { "content-type": "application/json", ...(token !== "" && { authorization: `Bearer ${token}` }) };
  try {
    const response = await fetch(`${url}${path}`, {
      method,
      headers,
      signal: AbortSignal.timeout(deadlineMs),
      ...(body !== undefined && { body: JSON.stringify(body) }),
    });
    return { status: response.status, body: await response.text() };
  } catch (error) {
    return { status: 0, body: String(error) };
  }
}

export async function login(url: string, username: string): Promise<string> {
  const body = { username, password: adminPassword, ttl_seconds: tokenSeconds };
  const answer = await http(url, "POST", "/admin/token/generation", { body });
  if (answer.status !== 200) throw new Error(`login of ${username}: ${answer.status} ${answer.body}`);
  return (JSON.parse(answer.body) as { token: string }).token;
}
