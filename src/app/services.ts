import { AccountService } from "#gen/tollgate/v1/account_pb.js";
import { AlertService } from "#gen/tollgate/v1/alert_pb.js";
import { AuditService } from "#gen/tollgate/v1/audit_pb.js";
import { CompanyService } from "#gen/tollgate/v1/company_pb.js";
import { DataService } from "#gen/tollgate/v1/data_pb.js";
import { QuotaService } from "#gen/tollgate/v1/lease_pb.js";
import { QuotaAdminService } from "#gen/tollgate/v1/quota_pb.js";
import { StatisticsService } from "#gen/tollgate/v1/statistics_pb.js";
import { SystemService } from "#gen/tollgate/v1/system_pb.js";
import { AuthService } from "#gen/tollgate/v1/token_pb.js";
import { UserService } from "#gen/tollgate/v1/user_pb.js";
import type { Login } from "../accounts/auth/login.ts";
import type { HashNewPassword } from "../accounts/auth/new-passwords.ts";
import { type Authenticator, authHandlers } from "../accounts/auth/service.ts";
import type { Tokens } from "../accounts/auth/tokens.ts";
import { companyHandlers } from "../accounts/companies/service.ts";
import { findCompany } from "../accounts/companies/store.ts";
import { accountHandlers } from "../accounts/own-account/service.ts";
import { toRoles } from "../accounts/users/messages.ts";
import { checkExistingRights } from "../accounts/users/rules.ts";
import { userHandlers } from "../accounts/users/service.ts";
import { findUser, findUserForUpdate, updatePassword } from "../accounts/users/store.ts";
import { alertHandlers } from "../alerts/threshold-service.ts";
import { type AuditOptions, auditHandlers } from "../audit/service.ts";
import { type DataServiceOptions, dataHandlers } from "../data/service.ts";
import type { Pipeline, Route } from "../pipeline/pipeline.ts";
import type { Database } from "../postgres/database.ts";
import { type QuotaServiceOptions, quotaHandlers } from "../quotas/leases/service.ts";
import { quotaAdminHandlers } from "../quotas/limits/service.ts";
import type { SecurityLog } from "../shared/security-log.ts";
import type { Thresholds } from "../shared/thresholds.ts";
import type { Files } from "../system/files.ts";
import type { HealthProbe } from "../system/probe.ts";
import { systemHandlers } from "../system/service.ts";
import type { Version } from "../system/version.ts";
import { statisticsHandlers } from "../usage/service.ts";

/** The parts that the services need. */
export interface Resources {
  readonly database: Database;
  /** Whether the database and Redis answer. */
  readonly probe: HealthProbe;
  readonly hashNewPassword: HashNewPassword;
  readonly tokens: Tokens;
  readonly login: Login;
  readonly authenticator: Authenticator;
  readonly securityLog: SecurityLog;
  readonly quotas: QuotaServiceOptions;
  readonly audit: AuditOptions;
  /** The thresholds of the setting. */
  readonly thresholds: Thresholds;
  readonly data: DataServiceOptions;
  readonly files: Files;
  readonly version: Version;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
}

/** Creates the route of every service: the table of contents of the server. */
export function createRoutes(pipeline: Pipeline, resources: Resources): Route[] {
  const { database, quotas } = resources;
  const users = userHandlers(resources);
  const quotaSettings = quotaAdminHandlers({ database });
  const statistics = statisticsHandlers(resources);
  const audit = auditHandlers(resources.audit);
  const data = dataHandlers(resources.data);
  const alerts = alertHandlers({
    ...resources,
    findUser,
    findUserForUpdate,
    findCompany,
    checkExistingRights: (principal, user) => checkExistingRights(principal, { roles: toRoles(user) }),
  });
  return [
    pipeline.route(AccountService, accountHandlers({ users, quotas: quotaSettings, statistics, audit, data })),
    pipeline.route(AlertService, alerts),
    pipeline.route(AuditService, audit),
    pipeline.route(AuthService, authHandlers({ ...resources, updatePassword })),
    pipeline.route(CompanyService, companyHandlers({ database })),
    pipeline.route(DataService, data),
    pipeline.route(UserService, users),
    pipeline.route(QuotaAdminService, quotaSettings),
    pipeline.route(QuotaService, quotaHandlers(quotas)),
    pipeline.route(StatisticsService, statistics),
    pipeline.route(SystemService, systemHandlers(resources)),
  ];
}
