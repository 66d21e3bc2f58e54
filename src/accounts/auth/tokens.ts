import { createHash } from "node:crypto";
import { decodeProtectedHeader, errors, jwtVerify, SignJWT } from "jose";

/** The claims of a token: the user and its token version. */
export interface TokenClaims {
  readonly userId: number;
  readonly tokenVersion: number;
}

export interface VerifiedClaims extends TokenClaims {
  /** Milliseconds since the epoch. */
  readonly expireMs: number;
}

export interface Tokens {
  /** @param ttlSeconds lifetime of the token */
  sign(claims: TokenClaims, ttlSeconds: number): Promise<string>;
  /** Returns undefined when the token has an unknown key or issuer, was altered, or has expired. */
  verify(token: string): Promise<VerifiedClaims | undefined>;
}

const issuer = "tollgate";
const algorithm = "HS256";

/**
 * Signs tokens with the first secret and accepts tokens of every secret. A secret is replaced in three steps, and no user
 * is logged out: append the new one on every server, put it first on every server, and remove the old one when the last
 * of its tokens has expired.
 */
export function createTokens(secrets: readonly string[], now: () => number): Tokens {
  const keys = new Map(secrets.map((secret) => [keyId(secret), new TextEncoder().encode(secret)]));
  const [current] = keys;
  if (current === undefined) throw new Error("at least one secret is needed to sign tokens");
  const [currentId, currentKey] = current;

  return {
    sign: ({ userId, tokenVersion }, ttlSeconds) => {
      const issuedAt = Math.floor(now() / 1000);
      return new SignJWT({ ver: tokenVersion })
        .setProtectedHeader({ alg: algorithm, kid: currentId })
        .setIssuer(issuer)
        .setSubject(String(userId))
        .setIssuedAt(issuedAt)
        .setExpirationTime(issuedAt + ttlSeconds)
        .sign(currentKey);
    },
    verify: async (token) => {
      try {
        const key = keys.get(decodeProtectedHeader(token).kid ?? "");
        if (key === undefined) return undefined;
        const checks = {
          issuer,
          algorithms: [algorithm],
          currentDate: new Date(now()),
          requiredClaims: ["exp", "sub"],
        };
        const { payload } = await jwtVerify<{ ver: number }>(token, key, checks);
        return { userId: Number(payload.sub), tokenVersion: payload.ver, expireMs: (payload.exp ?? 0) * 1000 };
      } catch (error) {
        // decodeProtectedHeader throws a TypeError when the text is not a JWT.
        if (error instanceof errors.JOSEError || error instanceof TypeError) return undefined;
        throw error;
      }
    },
  };
}

/** Derives a key id that does not reveal the secret. */
function keyId(secret: string): string {
  return createHash("sha256").update(`tollgate key id ${secret}`).digest("hex").slice(0, 12);
}
