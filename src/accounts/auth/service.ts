import { LRUCache } from "lru-cache";
import type { AuthService } from "#gen/tollgate/v1/token_pb.js";
import type { Database } from "../../postgres/database.ts";
import { createFreshCache } from "../../shared/cache.ts";
import { conflict, invalid, unauthenticated } from "../../shared/errors.ts";
import { type Handlers, requirePresent } from "../../shared/handler.ts";
import type { Principal } from "../../shared/principal.ts";
import { loginEvent, type SecurityLog } from "../../shared/security-log.ts";
import { networkOf } from "./caller-network.ts";
import type { Login } from "./login.ts";
import type { HashNewPassword } from "./new-passwords.ts";
import { type Account, findAccountById, updatePassword } from "./store.ts";
import type { Tokens, VerifiedClaims } from "./tokens.ts";

/** How long the token is valid that a change of password returns. */
const passwordChangeTtlSeconds = 86_400;

export interface AuthServiceOptions {
  readonly hashNewPassword: HashNewPassword;
  readonly tokens: Tokens;
  readonly login: Login;
  readonly authenticator: Authenticator;
  readonly securityLog: SecurityLog;
}

/** Whose token it is; undefined for one that is not valid now. */
export interface Authenticator {
  /** The same if it is at hand: no promise, no wait; undefined too where it is not known. */
  peek(token: string): Principal | undefined;
  authenticate(token: string): Promise<Principal | undefined>;
  /** They have changed: who is disabled, deleted or has a new password is refused from now on. */
  forget(userIds: readonly number[] | "all"): void;
}

/** Callers are few: services and administrators. */
const maxCached = 10_000;

export interface AuthenticatorOptions {
  readonly database: Database;
  readonly tokens: Tokens;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
}

/**
 * Verifies a token once, and reads its user again after five seconds at the latest: a call of the hot path costs
 * neither a signature nor a query.
 */
export function createAuthenticator({ database, tokens, now }: AuthenticatorOptions): Authenticator {
  const verified = new LRUCache<string, VerifiedClaims>({ max: maxCached });
  const accounts = createFreshCache({ load: (userId) => findAccountById(database, Number(userId)), max: maxCached });

  async function verify(token: string): Promise<VerifiedClaims | undefined> {
    const known = verified.get(token);
    if (known !== undefined) return known.expireMs > now() ? known : undefined;
    const claims = await tokens.verify(token);
    if (claims !== undefined) verified.set(token, claims);
    return claims;
  }

  return {
    peek(token) {
      const claims = verified.get(token);
      if (claims === undefined || claims.expireMs <= now()) return undefined;
      const account = accounts.peek(String(claims.userId));
      return isValid(account, claims) ? account : undefined;
    },
    async authenticate(token) {
      const claims = await verify(token);
      if (claims === undefined) return undefined;
      const key = String(claims.userId);
      let account = await accounts.get(key);
      if (account !== undefined && claims.tokenVersion > account.tokenVersion) {
        // The token is newer than what is remembered: another server has just changed the password.
        accounts.forget(key);
        account = await accounts.get(key);
      }
      return isValid(account, claims) ? account : undefined;
    },
    forget(userIds) {
      if (userIds === "all") return accounts.forgetAll();
      for (const userId of userIds) accounts.forget(String(userId));
    },
  };
}

function isValid(account: Account | undefined, { tokenVersion }: VerifiedClaims): boolean {
  return account?.enabled === true && account.tokenVersion === tokenVersion;
}

export function authHandlers(options: AuthServiceOptions): Handlers<typeof AuthService> {
  const { hashNewPassword, tokens, login, authenticator, securityLog } = options;

  return {
    async createToken(request, call) {
      const { username, password } = request;
      const { address, signal, tracecode } = call;
      const account = await login({ username, password, address, signal, tracecode });
      if (account === undefined) throw unauthenticated("WRONG_CREDENTIALS", "wrong username or password");
      const token = await tokens.sign(account, requirePresent(request.ttlSeconds));
      securityLog.record({ ...loginEvent, tracecode, user: account, address: networkOf(address) });
      return { token };
    },

    async validateToken(request) {
      const principal = await authenticator.authenticate(request.token);
      if (principal === undefined) return { valid: false, roles: [] };
      return { valid: true, username: principal.username, roles: [...principal.roles] };
    },

    async updatePassword(request, call) {
      const { username } = call.principal;
      const { address, signal, tracecode } = call;
      const account = await login({ username, password: request.currentPassword, address, signal, tracecode });
      if (account === undefined) throw invalid({ field: "current_password", message: "is not the password" });
      const passwordHash = await hashNewPassword({ username, password: request.newPassword, field: "new_password" });
      const tokenVersion = await call.change(username, async (transaction) => {
        const raised = await updatePassword(transaction, account, passwordHash);
        if (raised === undefined) throw conflict("PASSWORD_CHANGED", "the password was changed meanwhile");
        return {
          answer: raised,
          companyKey: account.companyKey,
          events: ["change_password", "revoke_tokens"],
        };
      });
      return { token: await tokens.sign({ ...account, tokenVersion }, passwordChangeTtlSeconds) };
    },
  };
}
