import type { DescService } from "@bufbuild/protobuf";
import { type Client, createClient, type Interceptor } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-node";
import { AuthService } from "#gen/tollgate/v1/token_pb.js";
import { type CommandInput, UsageError } from "./command.ts";

/** How long a unary call may take. */
const callTimeoutMs = 30_000;

/** A client of a service, signed in by TOLLGATE_TOKEN or by TOLLGATE_USERNAME and TOLLGATE_PASSWORD. */
export async function connect<Service extends DescService>(
  input: CommandInput,
  service: Service,
): Promise<Client<Service>> {
  const token = await findToken(input);
  if (token === undefined) {
    throw new UsageError("TOLLGATE_TOKEN must be set, or TOLLGATE_USERNAME and TOLLGATE_PASSWORD");
  }
  return createClient(service, transport(input, token));
}

/**
 * Logs in and returns the token.
 * @throws ConnectError UNAUTHENTICATED when the password is wrong
 */
export async function login(
  input: CommandInput,
  credentials: { readonly username: string; readonly password: string; readonly ttlSeconds?: number },
): Promise<string> {
  const { token } = await createClient(AuthService, transport(input)).createToken(credentials, {
    timeoutMs: callTimeoutMs,
  });
  return token;
}

/** The address of the server. */
export function urlOf({ environment }: CommandInput): string {
  return environment["TOLLGATE_URL"] || "http://localhost:8080";
}

async function findToken(input: CommandInput): Promise<string | undefined> {
  const { TOLLGATE_TOKEN: token, TOLLGATE_USERNAME: username, TOLLGATE_PASSWORD: password } = input.environment;
  if (token) return token;
  return username && password ? login(input, { username, password }) : undefined;
}

function transport(input: CommandInput, token?: string) {
  const baseUrl = urlOf(input);
  if (!URL.canParse(baseUrl)) throw new UsageError("TOLLGATE_URL must be a URL such as http://localhost:8080");
  const authorize: Interceptor = (next) => (request) => {
    if (token !== undefined) request.header.set("authorization", `Bearer ${token}`);
    return next(request);
  };
  return createConnectTransport({ baseUrl, httpVersion: "1.1", interceptors: [authorize] });
}
