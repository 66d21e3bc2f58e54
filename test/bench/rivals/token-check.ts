import { decodeJwt, jwtVerify } from "jose";
import type { Pool } from "pg";

/** Returns a check of administrators' tokens. It verifies a token once and reads its account every five seconds, as the service does. */
export function createTokenCheck(pool: Pool, secret: string): (authorization?: string) => Promise<boolean> {
  const key = new TextEncoder().encode(secret);
  const verified = new Map<string, number>();
  const accounts = new Map<number, { enabled: boolean; roles: string[]; untilMs: number }>();
  return async (authorization = "") => {
    const token = authorization.replace("Bearer ", "");
    if (!verified.has(token)) {
      await jwtVerify(token, key);
      verified.set(token, Number(decodeJwt(token).sub));
    }
    const id = verified.get(token) ?? 0;
    let account = accounts.get(id);
    if (account === undefined || account.untilMs < Date.now()) {
      const { rows } = await pool.query("select enabled, roles from user_account where id = $1", [id]);
      account = { ...rows[0], untilMs: Date.now() + 5000 };
      accounts.set(id, account as typeof account & object);
    }
    return account?.enabled === true && account.roles.includes("ADMIN");
  };
}
