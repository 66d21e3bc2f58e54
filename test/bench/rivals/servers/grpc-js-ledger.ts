/**
 * The service that a team would build by itself: grpc-js, a token check, the quota script in Redis, and one transaction of
 * PostgreSQL for each settlement, which writes lease, usage and audit action. The columns and indexes are the service's. The
 * lease of an acquire is written without waiting, as the service does by default. Statements are prepared.
 */
import pg from "pg";
import { createLeaseIds } from "../../../../src/quotas/ledger/lease-id.ts";
import { createDecision } from "../decision.ts";
import { serveByGrpcJs } from "../grpc-js-service.ts";
import { createTokenCheck } from "../token-check.ts";

const pool = new pg.Pool({ connectionString: process.env.DATABASE_URL, max: 10 });
const isAdministrator = createTokenCheck(pool, process.env.TOKEN_KEYS ?? "");
const decision = createDecision(process.env.REDIS_URL ?? "");
const leaseIds = createLeaseIds({ secrets: ["a secret that no server has"], now: Date.now });
const tracecode = "11111111-2222-3333-4444-555555555555";

await pool.query("create schema rival");
for (const table of ["lease", "usage_day", "audit_action"]) {
  await pool.query(`create table rival.${table} (like public.${table} including all)`);
}

const grantLease = `
  insert into rival.lease (
    user_id, service, method_group, day, operation_id, username, company_key, timezone, points, granted_at, expire_at,
    state, tracecode, holder
  ) values ($1, $2, $3, date '1970-01-01' + $4::integer, $5, $6, 'acme', 0, $7, now(), now() + interval '1 hour', 0, $8, 'admin')
  on conflict do nothing`;
/** The settlement may come before the lease is written. */
const settleLease = `
  insert into rival.lease as kept (
    user_id, service, method_group, day, operation_id, username, company_key, timezone, points, granted_at, expire_at,
    state, tracecode, holder, ended_at, settled_points, outcome
  ) values ($1, $2, $3, date '1970-01-01' + $4::integer, $5, $6, 'acme', 0, $7, now(), now(), 2, $8, 'admin', now(), $7, 1)
  on conflict (user_id, service, method_group, day, operation_id) do update set
    state = 2, ended_at = now(), settled_points = excluded.settled_points, outcome = excluded.outcome
  where kept.state < 2`;
const addUsage = `
  insert into rival.usage_day as kept (
    user_id, service, method_group, date, username, company_key, requests, points, unique_points
  ) values ($1, $2, $3, date '1970-01-01' + $4::integer, $5, 'acme', 1, $6, 0)
  on conflict (user_id, company_key, date, service, method_group) do update set
    requests = kept.requests + 1, points = kept.points + excluded.points`;
const recordAction = `
  insert into rival.audit_action (
    time, tracecode, operation, part, user_id, username, company_key, server, service, method_group, points, outcome
  ) values (now(), $1, 'settle_lease', $2, $3, $4, 'acme', 'admin', $5, $6, $7, 1)`;

serveByGrpcJs({
  async acquire(request, metadata) {
    await authorize(String(metadata.get("authorization")[0]));
    const answer = await decision.acquire(request);
    const { operationId, day, userId, service, methodGroup } = leaseIds.parse(answer.lease.leaseId ?? "");
    const values = [userId, service, methodGroup, day, operationId, request.username, request.points, tracecode];
    pool.query({ name: "grant", text: grantLease, values }).catch(fail);
    return answer;
  },
  async settle(request, metadata) {
    await authorize(String(metadata.get("authorization")[0]));
    const answer = await decision.settle(request);
    const { operationId, day, userId, service, methodGroup } = leaseIds.parse(request.leaseId);
    const username = `user_${userId}`;
    const points = request.points ?? 0;
    const usage = [userId, service, methodGroup, day];
    await inTransaction(async (client) => {
      const lease = [...usage, operationId, username, points, tracecode];
      const { rowCount } = await client.query({ name: "settle", text: settleLease, values: lease });
      if (rowCount === 0) return;
      await client.query({ name: "usage", text: addUsage, values: [...usage, username, points] });
      const action = [tracecode, operationId, userId, username, service, methodGroup, points];
      await client.query({ name: "action", text: recordAction, values: action });
    });
    return answer;
  },
});

async function authorize(authorization: string): Promise<void> {
  if (!(await isAdministrator(authorization))) throw new Error("not an administrator");
}

async function inTransaction(work: (client: pg.PoolClient) => Promise<void>): Promise<void> {
  const client = await pool.connect();
  try {
    await client.query("begin");
    await work(client);
    await client.query("commit");
  } catch (error) {
    await client.query("rollback");
    throw error;
  } finally {
    client.release();
  }
}

function fail(error: unknown): never {
  console.error(error);
  process.exit(1);
}
