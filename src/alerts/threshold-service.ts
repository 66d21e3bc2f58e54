import { type AlertService, AlertThresholds_Source as Source } from "#gen/tollgate/v1/alert_pb.js";
import type { Database, Transaction } from "../postgres/database.ts";
import { isForeignKeyViolation } from "../postgres/errors.ts";
import { invalid, notFound } from "../shared/errors.ts";
import type { Call, Handlers } from "../shared/handler.ts";
import { type Principal, type Scope, scopeOf } from "../shared/principal.ts";
import { type Thresholds, thresholdsOf } from "../shared/thresholds.ts";
import {
  deleteThresholds,
  findThresholds,
  putThresholds,
  type StoredThresholds,
  type ThresholdOwner,
} from "./threshold-store.ts";

/** The user that thresholds belong to. */
export interface ThresholdUser {
  readonly id: number;
  readonly company_key: string;
  readonly roles: string[];
}

export interface AlertServiceOptions {
  readonly database: Database;
  /** The thresholds of the setting. */
  readonly thresholds: Thresholds;
  /** Returns undefined when the scope has no such user. */
  readonly findUser: (database: Database, scope: Scope, username: string) => Promise<ThresholdUser | undefined>;
  /** Finds the user and locks it until the transaction ends. */
  readonly findUserForUpdate: (
    transaction: Transaction,
    scope: Scope,
    username: string,
  ) => Promise<ThresholdUser | undefined>;
  /** Throws ROLE_RESERVED when the caller may not change a user with these roles. */
  readonly checkExistingRights: (principal: Principal, user: ThresholdUser) => void;
  /** Returns undefined when the scope has no such company. */
  readonly findCompany: (database: Database, scope: Scope, key: string) => Promise<object | undefined>;
}

/** The thresholds of a request. */
interface Requested {
  readonly thresholds: string[];
  readonly off: boolean;
}

export function alertHandlers(options: AlertServiceOptions): Handlers<typeof AlertService> {
  const { database, findUser, findUserForUpdate, checkExistingRights, findCompany } = options;

  async function changeUser(
    call: Call,
    username: string,
    work: (transaction: Transaction, owner: ThresholdOwner) => Promise<void>,
  ): Promise<void> {
    await call.change(username, async (transaction) => {
      const user = await findUserForUpdate(transaction, scopeOf(call.principal), username);
      if (user === undefined) throw notFound("user", username);
      checkExistingRights(call.principal, user);
      await work(transaction, { userId: user.id });
      return { answer: undefined, companyKey: user.company_key };
    });
  }

  async function changeCompany(
    call: Call,
    key: string,
    work: (transaction: Transaction, owner: ThresholdOwner) => Promise<void>,
  ): Promise<void> {
    await call.change(key, async (transaction) => {
      const company = await findCompany(transaction, scopeOf(call.principal), key);
      if (company === undefined) throw notFound("company", key);
      await work(transaction, { companyKey: key }).catch((error: unknown) => {
        // Another call has just deleted the company.
        throw isForeignKeyViolation(error) ? notFound("company", key) : error;
      });
      return { answer: undefined, companyKey: key };
    });
  }

  return {
    async readUserAlertThresholds({ username }, call) {
      const user = await findUser(database, scopeOf(call.principal), username);
      if (user === undefined) throw notFound("user", username);
      const companyKey = user.company_key;
      const stored = await findThresholds(database, { userId: user.id, companyKey });
      call.recordRead({ username, companyKey });
      return { alertThresholds: effectiveOf(stored, options.thresholds, { username, companyKey }) };
    },

    async updateUserAlertThresholds({ username, ...requested }, call) {
      checkRequested(requested);
      const { thresholds } = requested;
      await changeUser(call, username, (transaction, owner) => putThresholds(transaction, owner, thresholds));
      return { alertThresholds: { thresholds, source: Source.USER } };
    },

    async deleteUserAlertThresholds({ username }, call) {
      await changeUser(call, username, deleteThresholds);
      return {};
    },

    async readCompanyAlertThresholds({ key }, call) {
      const company = await findCompany(database, scopeOf(call.principal), key);
      if (company === undefined) throw notFound("company", key);
      const stored = await findThresholds(database, { companyKey: key });
      return { alertThresholds: effectiveOf(stored, options.thresholds, { companyKey: key }) };
    },

    async updateCompanyAlertThresholds({ key, ...requested }, call) {
      checkRequested(requested);
      const { thresholds } = requested;
      await changeCompany(call, key, (transaction, owner) => putThresholds(transaction, owner, thresholds));
      return { alertThresholds: { thresholds, source: Source.COMPANY } };
    },

    async deleteCompanyAlertThresholds({ key }, call) {
      await changeCompany(call, key, deleteThresholds);
      return {};
    },
  };
}

/** A request without thresholds must say that it means none: an absent field must not turn alerts off. */
function checkRequested({ thresholds, off }: Requested): void {
  if (off && thresholds.length > 0) throw invalid({ field: "thresholds", message: "must be empty when off is true" });
  if (!off && thresholds.length === 0)
    throw invalid({ field: "thresholds", message: "must have at least 1 item, unless off is true" });
}

/** Returns the thresholds that apply, and where they are set. */
function effectiveOf(
  { ofUser, ofCompany }: StoredThresholds,
  setting: Thresholds,
  { username = "", companyKey }: { readonly username?: string; readonly companyKey: string },
) {
  if (ofUser !== undefined) return { thresholds: [...ofUser], source: Source.USER };
  if (ofCompany !== undefined) return { thresholds: [...ofCompany], source: Source.COMPANY };
  const thresholds = thresholdsOf(setting, username, companyKey).map(({ text }) => text);
  return { thresholds, source: Source.SETTING };
}
