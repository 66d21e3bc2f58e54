/** A typical alternative: rate-limiter-flexible, and a table read with pg, behind Fastify. */
import Fastify from "fastify";
import { Redis } from "ioredis";
import pg from "pg";
import { RateLimiterRedis } from "rate-limiter-flexible";
import { createTokenCheck } from "../token-check.ts";

const app = Fastify();
const limiter = new RateLimiterRedis({
  storeClient: new Redis(process.env.REDIS_URL ?? ""),
  points: 1_000_000_000,
  duration: 86_400,
});
interface Points {
  readonly key: string;
  readonly points: number;
}
app.post<{ Body: Points }>("/consume", async ({ body }) => limiter.consume(body.key, body.points));
app.post<{ Body: Points }>("/reward", async ({ body }) => limiter.reward(body.key, body.points));

const pool = new pg.Pool({ connectionString: process.env.DATABASE_URL, max: 10 });
const isAdministrator = createTokenCheck(pool, process.env.TOKEN_KEYS ?? "");
const columns = "id, username, name, email, phone, company_key, enabled, roles, timezone";

app.addHook("onRequest", async ({ url, headers }, reply) => {
  if (url.startsWith("/admin") && !(await isAdministrator(headers.authorization))) return reply.code(401).send();
  return undefined;
});

app.get<{ Params: { username: string } }>("/admin/users/:username", async ({ params }) => {
  const { rows } = await pool.query(`select ${columns} from user_account where username = $1 limit 1`, [
    params.username,
  ]);
  const { id: _id, ...user } = rows[0];
  return user;
});

const totals = `select coalesce(sum(total), 0)::int as total, coalesce(sum(active), 0)::int as active,
  coalesce(sum(admins), 0)::int as admins from user_total`;
app.get<{ Querystring: { limit: string } }>("/admin/users", async ({ query }) => {
  const [all, page] = await Promise.all([
    pool.query(totals),
    pool.query(`select ${columns} from user_account order by username offset $1 limit $2`, [0, Number(query.limit)]),
  ]);
  const group = ({ total, active, admins }: Record<string, number>) => ({
    total,
    active,
    blocked: (total ?? 0) - (active ?? 0),
    admins,
  });
  const users = page.rows.map(({ id: _id, ...user }) => user);
  return { users, statistics: { overall: group(all.rows[0]), filter: group(all.rows[0]) } };
});

await app.listen({ port: Number(process.env.PORT), host: "127.0.0.1" });
console.log("ready");
