import { LRUCache } from "lru-cache";
import type { AuthService } from "#gen/tollgate/v1/token_pb.js";
import type { Database, Transaction } from "../../postgres/database.ts";
import { type CacheUses, createFreshCache } from "../../shared/cache.ts";
import { conflict, invalid, unauthenticated } from "../../shared/errors.ts";
import { type Handlers, requirePresent } from "../../shared/handler.ts";
import type { Principal } from "../../shared/principal.ts";
import { loginEvent, type SecurityLog } from "../../shared/security-log.ts";
import { networkOf } from "./caller-network.ts";
import type { Login } from "./login.ts";
import type { HashNewPassword } from "./new-passwords.ts";
import { type Account, findAccountById } from "./store.ts";
import type { Tokens, VerifiedClaims } from "./tokens.ts";

/** Lifetime of the token that a password change returns. */
const passwordChangeTtlSeconds = 86_400;

export interface AuthServiceOptions {
  readonly hashNewPassword: HashNewPassword;
  /** Stores a password unless it was changed since the account was read. Returns the new token version. */
  readonly updatePassword: (
    transaction: Transaction,
    account: Account,
    passwordHash: string,
  ) => Promise<number | undefined>;
  readonly tokens: Tokens;
  readonly login: Login;
  readonly authenticator: Authenticator;
  readonly securityLog: SecurityLog;
}

/** Authenticates tokens. */
export interface Authenticator {
  /** Like `authenticate`, but from memory only. Returns undefined also when the answer is not cached. */
  peek(token: string): Principal | undefined;
  /** Returns the user of the token. Undefined when the token is not valid. */
  authenticate(token: string): Promise<Principal | undefined>;
  /** Invalidates cached users after a change, so that a disable, a deletion or a new password takes effect at once. */
  forget(userIds: readonly number[] | "all"): void;
  /** The cache of users. */
  readonly cacheUses: CacheUses;
}

/** Services and administrators are few. */
const maxCached = 10_000;

export interface AuthenticatorOptions {
  readonly database: Database;
  readonly tokens: Tokens;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
}

/**
 * Creates an authenticator that caches verified tokens, and their users for at most five seconds. A quota decision then
 * needs no signature check and no query.
 */
export function createAuthenticator({ database, tokens, now }: AuthenticatorOptions): Authenticator {
  const verified = new LRUCache<string, VerifiedClaims>({ max: maxCached });
  const accounts = createFreshCache({ load: (userId) => findAccountById(database, Number(userId)), max: maxCached });

  async function verify(token: string): Promise<VerifiedClaims | undefined> {
    const cached = verified.get(token);
    if (cached !== undefined) return cached.expireMs > now() ? cached : undefined;
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
        // The token is newer than the cached account: another server has just changed the password.
        accounts.forget(key);
        account = await accounts.get(key);
      }
      return isValid(account, claims) ? account : undefined;
    },
    forget(userIds) {
      if (userIds === "all") return accounts.forgetAll();
      for (const userId of userIds) accounts.forget(String(userId));
    },
    cacheUses: accounts.uses,
  };
}

function isValid(account: Account | undefined, { tokenVersion }: VerifiedClaims): boolean {
  return account?.enabled === true && account.tokenVersion === tokenVersion;
}

export function authHandlers(options: AuthServiceOptions): Handlers<typeof AuthService> {
  const { hashNewPassword, updatePassword, tokens, login, authenticator, securityLog } = options;

  return {
    async createToken(request, call) {
      const { username, password } = request;
      const { address, tracecode } = call;
      const account = await login({ username, password, call });
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
      const account = await login({ username, password: request.currentPassword, call });
      if (account === undefined) throw invalid({ field: "current_password", message: "must be the current password" });
      const passwordHash = await hashNewPassword({ username, password: request.newPassword, field: "new_password" });
      const tokenVersion = await call.change(username, async (transaction) => {
        const raised = await updatePassword(transaction, account, passwordHash);
        if (raised === undefined)
          throw conflict(
            "PASSWORD_CHANGED",
            "the password was changed by another call; log in with the current password",
          );
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
