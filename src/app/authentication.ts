import { availableParallelism } from "node:os";
import type { Cluster, Redis } from "ioredis";
import { createFailureCounts } from "../accounts/auth/failure-counts.ts";
import { createLogin, type Login } from "../accounts/auth/login.ts";
import { createLoginSlots } from "../accounts/auth/login-slots.ts";
import { createNewPasswords, type HashNewPassword } from "../accounts/auth/new-passwords.ts";
import { createPacedRefusals, type PacedRefusals } from "../accounts/auth/paced-refusals.ts";
import { createPasswords, type HashCost } from "../accounts/auth/passwords.ts";
import { type Authenticator, createAuthenticator } from "../accounts/auth/service.ts";
import { createLoginThrottle } from "../accounts/auth/throttle.ts";
import { keptSecret } from "../accounts/auth/token-keys.ts";
import { createTokens, type Tokens } from "../accounts/auth/tokens.ts";
import type { Config } from "../config.ts";
import type { Database } from "../postgres/database.ts";
import type { SecurityLog } from "../shared/security-log.ts";

export interface Authentication {
  /** The secrets of tokens and lease ids. The first signs, all are accepted. */
  readonly secrets: readonly string[];
  readonly tokens: Tokens;
  readonly login: Login;
  readonly authenticator: Authenticator;
  readonly hashNewPassword: HashNewPassword;
  /** Must stop before the listener drains. Otherwise the drain waits for refusals. */
  readonly refusals: PacedRefusals;
}

export interface AuthenticationResources {
  readonly publicDatabase: Database;
  /** Where failed logins are counted. Undefined to count them in PostgreSQL. */
  readonly redis: Redis | Cluster | undefined;
  readonly securityLog: SecurityLog;
  readonly passwordCost: HashCost | undefined;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
}

const loginWindowMs = 900_000;
/** Hashing a password keeps a core busy. Half of the cores stay free for other work. */
const hashConcurrency = Math.max(1, Math.floor(availableParallelism() / 2));

/** Wires passwords, tokens and logins on the public pool. */
export async function openAuthentication(
  config: Config,
  { publicDatabase, redis, securityLog, passwordCost, now }: AuthenticationResources,
): Promise<Authentication> {
  const secrets = config.TOKEN_KEYS.length > 0 ? config.TOKEN_KEYS : [await keptSecret(config.DATA_DIR)];
  const tokens = createTokens(secrets, now);
  const passwords = await createPasswords({ cost: passwordCost });
  const limits = {
    byNameAndAddress: config.LOGIN_FAILURES,
    byAddress: config.LOGIN_FAILURES_BY_ADDRESS,
    windowMs: loginWindowMs,
  };
  const throttle = createLoginThrottle(createFailureCounts({ database: publicDatabase, redis }, now), limits, now);
  const slots = createLoginSlots({ concurrency: hashConcurrency });
  const refusals = createPacedRefusals();
  return {
    secrets,
    tokens,
    login: createLogin({ database: publicDatabase, passwords, throttle, slots, refusals, securityLog }),
    authenticator: createAuthenticator({ database: publicDatabase, tokens, now }),
    hashNewPassword: await createNewPasswords(passwords, config.PASSWORD_POLICY),
    refusals,
  };
}
