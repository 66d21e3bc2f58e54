import { createHash } from "node:crypto";
import { decodeProtectedHeader, errors, jwtVerify, SignJWT } from "jose";

/** What a token says: which user, and as of which change of password. */
export interface TokenClaims {
  readonly userId: number;
  readonly tokenVersion: number;
}

/** Of a token that is valid until then, in milliseconds since the epoch. */
export interface VerifiedClaims extends TokenClaims {
  readonly expireMs: number;
}

export interface Tokens {
  /** @param ttlSeconds how long the token is valid from now */
  sign(claims: TokenClaims, ttlSeconds: number): Promise<string>;
  /** Undefined for a token that is not ours, was altered, or has expired. */
  verify(token: string): Promise<VerifiedClaims | undefined>;
}

const issuer = "tollgate";
const algorithm = "HS256";

/**
 * Tokens signed with the first of the secrets; those signed with another one are still valid, so that a secret is
 * replaced in three steps without logging anybody out: append the new one everywhere, put it first everywhere, and
 * remove the old one when the last of its tokens has expired.
 */
export function createTokens(secrets: readonly string[], now: () => number): Tokens {
  const keys = new Map(secrets.map((secret) => [keyId(secret), new TextEncoder().encode(secret)]));
  const [current] = keys;
  if (current === undefined) throw new Error("no secret to sign tokens with");
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
        // decodeProtectedHeader throws a TypeError for what is no JWT at all.
        if (error instanceof errors.JOSEError || error instanceof TypeError) return undefined;
        throw error;
      }
    },
  };
}

/** Names a secret without telling it. */
function keyId(secret: string): string {
  return createHash("sha256").update(`tollgate key id ${secret}`).digest("hex").slice(0, 12);
}
