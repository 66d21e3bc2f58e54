import * as auth from "../accounts/auth/store.ts";
import * as companies from "../accounts/companies/store.ts";
import * as users from "../accounts/users/store.ts";
import * as totals from "../accounts/users/totals.ts";
import * as buckets from "../audit/buckets.ts";
import type { ActionFilter } from "../audit/selection.ts";
import * as audit from "../audit/store.ts";
import * as data from "../data/store.ts";
import type { Database, Transaction } from "../postgres/database.ts";
import * as limits from "../quotas/limits/store.ts";
import type { Page } from "../shared/pagination.ts";
import type { Scope } from "../shared/principal.ts";
import * as usage from "../usage/store.ts";

/** Sample calls of one function, by the case that each covers. */
type Calls = Readonly<Record<string, (database: Database, transaction: Transaction) => unknown>>;

/** The calls of every function that a module exports. Empty when the function does not use the builder. */
type CallsOf<Module> = {
  readonly [Name in keyof Module as Module[Name] extends (...values: never[]) => unknown ? Name : never]: Calls;
};

const everything: Scope = { kind: "everything" };
const company: Scope = { kind: "company", companyKey: "acme" };
const self: Scope = { kind: "self", userId: 1 };
const page: Page = { offset: 0, limit: 20, sort: "name", direction: "asc" };
const user: users.NewUser = {
  username: "ann",
  name: null,
  email: null,
  phone: null,
  company_key: "acme",
  enabled: true,
  roles: [],
  timezone: 0,
  password_hash: null,
};
const period = { from: "2026-01-01", to: "2026-02-01" };
const quota: limits.QuotaRow = {
  service: "PLAN",
  method_group: "ROUTE",
  points_per_request: 1,
  points_per_day: 1,
  points_per_date_window: null,
  max_concurrent_execution: null,
};
const file: data.DataFile = {
  id: 1,
  day: "2026-01-01",
  tracecode: "00000000-0000-0000-0000-000000000000",
  flow: 1,
  stage: 1,
  user_id: 1,
  username: "ann",
  company_key: "acme",
  content_type: "application/json",
  filename: "a.json",
  bytes: 1,
  sha256: Buffer.alloc(32),
};
const allUsers: users.UserFilter = { scope: everything, filter: undefined, companyKey: undefined, group: "TOTAL" };

const usersCalls: CallsOf<typeof users> = {
  insertUser: { "": (_, transaction) => users.insertUser(transaction, user) },
  findUser: {},
  findUserCompanies: {},
  findUserForUpdate: {
    everything: (_, transaction) => users.findUserForUpdate(transaction, everything, "ann"),
    "a company": (_, transaction) => users.findUserForUpdate(transaction, company, "ann"),
    self: (_, transaction) => users.findUserForUpdate(transaction, self, "ann"),
  },
  updateUser: {
    "keeps the password": (_, transaction) => users.updateUser(transaction, 1, user),
    "sets a password": (_, transaction) => users.updateUser(transaction, 1, { ...user, password_hash: "hash" }),
  },
  updatePassword: {
    "": (_, transaction) => users.updatePassword(transaction, { userId: 1, tokenVersion: 1 }, "hash"),
  },
  deleteUser: { "": (_, transaction) => users.deleteUser(transaction, 1) },
  hasAdministrator: {},
  streamUsers: {
    "all by name": (database) => users.streamUsers(database, allUsers, page),
    "filter, company, enabled": (database) =>
      users.streamUsers(database, { ...allUsers, filter: "a", companyKey: "acme", group: "ACTIVE" }, page),
    "administrators of a company": (database) =>
      users.streamUsers(database, { ...allUsers, scope: company, group: "ADMINS" }, page),
    self: (database) => users.streamUsers(database, { ...allUsers, scope: self }, page),
  },
  filterUsers: {},
};

const totalsCalls: CallsOf<typeof totals> = {
  createUserTotals: {
    filter: (database) => totals.createUserTotals(database, { ...allUsers, filter: "a" }),
  },
  readFirstUsers: {},
};

const companiesCalls: CallsOf<typeof companies> = {
  insertCompany: { "": (_, transaction) => companies.insertCompany(transaction, { key: "acme", detail: null }) },
  ensureCompany: { "": (_, transaction) => companies.ensureCompany(transaction, "acme") },
  hasCompanyHistory: { "": (_, transaction) => companies.hasCompanyHistory(transaction, "acme") },
  findCompany: {
    everything: (database) => companies.findCompany(database, everything, "acme"),
    "a company": (database) => companies.findCompany(database, company, "acme"),
    self: (database) => companies.findCompany(database, self, "acme"),
  },
  updateCompany: {
    everything: (_, transaction) => companies.updateCompany(transaction, everything, { key: "acme", detail: null }),
  },
  deleteCompany: { "": (_, transaction) => companies.deleteCompany(transaction, "acme") },
  streamCompanies: {
    all: (database) => companies.streamCompanies(database, everything, undefined, { ...page, sort: "detail" }),
    filter: (database) => companies.streamCompanies(database, company, "a", { ...page, sort: "key" }),
  },
  countCompanies: {
    everything: (database) => companies.countCompanies(database, everything),
    "a company": (database) => companies.countCompanies(database, company),
  },
  countMatchingCompanies: { "": (database) => companies.countMatchingCompanies(database, everything, "a") },
};

const authCalls: CallsOf<typeof auth> = {
  findAccountByUsername: { "": (database) => auth.findAccountByUsername(database, "ann") },
  findAccountById: { "": (database) => auth.findAccountById(database, 1) },
};

const limitsCalls: CallsOf<typeof limits> = {
  findQuotaOwner: {
    everything: (database) => limits.findQuotaOwner(database, everything, "ann"),
    "a company": (database) => limits.findQuotaOwner(database, company, "ann"),
    self: (database) => limits.findQuotaOwner(database, self, "ann"),
  },
  lockQuotaOwner: { "": (_, transaction) => limits.lockQuotaOwner(transaction, "ann") },
  replaceQuotas: {
    "the base quota": (_, transaction) => limits.replaceQuotas(transaction, 1, undefined, [quota]),
    "a period": (_, transaction) => limits.replaceQuotas(transaction, 1, period, [quota]),
  },
  deleteQuotaPeriod: { "": (_, transaction) => limits.deleteQuotaPeriod(transaction, 1, period) },
  deleteQuotas: { "": (_, transaction) => limits.deleteQuotas(transaction, 1) },
  listQuotas: {},
  listCompanyUsers: {},
};

const hourMicros = 3_600_000_000;
const allActions: ActionFilter = { from: 0, to: 50 * hourMicros, user: {}, method: {} };
const streamOf = (selection: ActionFilter, sort: string) => (database: Database) =>
  drain(
    audit.streamActions(database, {
      selection,
      buckets: [{ start: selection.from, end: selection.to, total: 20, changes: false }],
      page: { offset: 0, limit: 20, sort, direction: "desc" },
      signal: new AbortController().signal,
    }),
  );

async function drain(stream: AsyncIterable<unknown>): Promise<void> {
  for await (const _ of stream);
}

const auditCalls: CallsOf<typeof audit> = {
  streamActions: {
    "all by time": streamOf(allActions, "time"),
    "failures of a service by client": streamOf(
      { ...allActions, method: { service: 1 }, outcome: "not success" },
      "company_key, username",
    ),
    "one user of a company, as a partner sees it": streamOf(
      { ...allActions, user: { username: "ann" }, company: "acme", visibleTo: "acme", outcome: 2 },
      "time",
    ),
  },
};

const bucketsCalls: CallsOf<typeof buckets> = {
  bucketsOf: {
    all: (database) => buckets.bucketsOf(database, { ...allActions, from: 1, to: 50 * hourMicros + 1 }),
    "by hour": (database) => buckets.bucketsOf(database, allActions, "hour"),
    "successes of a user": (database) =>
      buckets.bucketsOf(database, { ...allActions, user: { username: "ann" }, outcome: 1 }),
    "a company, as a partner sees it": (database) => buckets.bucketsOf(database, { ...allActions, visibleTo: "acme" }),
  },
  countActions: {},
};

const usageCalls: CallsOf<typeof usage> = {
  streamUsage: {},
  selectUsage: {
    "this month, all users": (database) =>
      usage.selectUsage(
        database,
        { scope: everything, username: undefined, period: { from: undefined, to: undefined } },
        0,
      ),
    "a period of a user of a company": (database) =>
      usage.selectUsage(database, { scope: company, username: "ann", period }, 0),
    "a period of oneself": (database) => usage.selectUsage(database, { scope: self, username: undefined, period }, 0),
  },
};

const dataCalls: CallsOf<typeof data> = {
  findDataFile: {
    everything: (database) => data.findDataFile(database, file, everything),
    "a company": (database) => data.findDataFile(database, file, company),
    self: (database) => data.findDataFile(database, file, self),
  },
  listFiles: { everything: (database) => data.listFiles(database, file.tracecode, everything) },
  findCodesWithData: {},
  findDataOwner: { "": (database) => data.findDataOwner(database, file) },
  nextFileId: {},
  insertFile: { "": (_, transaction) => data.insertFile(transaction, file) },
  insertChunk: { "": (_, transaction) => data.insertChunk(transaction, file, 0, file.sha256) },
  streamBytes: {},
  dropFiles: {},
};

/** The functions that build SQL with Knex, by their file in src. */
export const builderCalls: ReadonlyMap<string, Readonly<Record<string, Calls>>> = new Map(
  Object.entries({
    "accounts/auth/store.ts": authCalls,
    "accounts/companies/store.ts": companiesCalls,
    "accounts/users/store.ts": usersCalls,
    "accounts/users/totals.ts": totalsCalls,
    "audit/buckets.ts": bucketsCalls,
    "audit/store.ts": auditCalls,
    "data/store.ts": dataCalls,
    "quotas/limits/store.ts": limitsCalls,
    "usage/store.ts": usageCalls,
  }),
);
