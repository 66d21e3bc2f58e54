import type { Database } from "../../src/postgres/database.ts";

/** Inserts users `member_1` and so on, and 1,000 companies. Their search index is made after them, in a fraction of the time. */
export async function fillUsers(database: Database, count: number): Promise<void> {
  await database.raw("drop index user_account_search");
  await database.raw("insert into company (key) select 'company_' || i from generate_series(1, 1000) as i");
  await database.raw(
    `insert into user_account (username, name, email, phone, company_key, enabled, roles, timezone)
     select 'member_' || i, 'Name ' || md5(i::text), md5((i * 7)::text) || '@example.com', '+7' || (i * 13),
       'company_' || (1 + i % 1000), i % 10 <> 0, array[case when i % 100 = 0 then 'ADMIN' else 'USER' end], i % 12
     from generate_series(1, ?) as i`,
    [count],
  );
  await database.raw("create index user_account_search on user_account using gin (search gin_trgm_ops)");
  await database.raw("vacuum analyze user_account");
}

/** The month that fillUsage fills. */
export const usagePeriod = "from=2026-10-01&to=2026-10-31";

/** Inserts usage for the first members: one row for each user, day and method. */
export async function fillUsage(
  database: Database,
  { users, days, methods }: Readonly<Record<"users" | "days" | "methods", number>>,
): Promise<void> {
  await database.raw(
    `insert into usage_day (date, user_id, service, method_group, username, company_key, requests, points, unique_points)
     select date '2026-10-01' + day, id, 1 + method % 2, 3 + method, username, company_key, 7, id * 13, id * 11
     from (select * from user_account where username like 'member%' order by id limit ?) as member,
       generate_series(0, ?) as day, generate_series(0, ?) as method`,
    [users, days - 1, methods - 1],
  );
  await database.raw("vacuum analyze usage_day");
}
