import type { Reason } from "../shared/reasons.ts";

/** The reasons of a refused decision. */
const refusals = [
  "REQUEST_POINTS_EXCEEDED",
  "DAILY_POINTS_EXCEEDED",
  "DATE_WINDOW_POINTS_EXCEEDED",
  "CONCURRENCY_LIMIT_EXCEEDED",
  "USER_DISABLED",
  "NO_QUOTA",
] as const;

/**
 * The reasons of each HTTP operation beyond those that every operation can have. A test compares the statuses with the
 * OpenAPI document, and finds a reason that no operation names.
 */
export const operationReasons: Readonly<Record<string, readonly Reason[]>> = {
  create_token: ["WRONG_CREDENTIALS", "LOGIN_LOCKED"],
  update_password: ["LOGIN_LOCKED", "PASSWORD_CHANGED"],
  create_company: ["COMPANY_EXISTS", "KEY_HAS_HISTORY"],
  update_company: ["COMPANY_NOT_FOUND"],
  patch_company: ["COMPANY_NOT_FOUND"],
  read_company: ["COMPANY_NOT_FOUND"],
  delete_company: ["COMPANY_NOT_FOUND", "COMPANY_HAS_USERS"],
  create_user: ["USER_EXISTS", "ROLE_RESERVED"],
  update_user: ["USER_NOT_FOUND", "ROLE_RESERVED", "LAST_ADMINISTRATOR", "OWN_ACCOUNT", "LOGIN_LOCKED"],
  patch_user: ["USER_NOT_FOUND", "ROLE_RESERVED", "LAST_ADMINISTRATOR", "OWN_ACCOUNT", "LOGIN_LOCKED"],
  read_user: ["USER_NOT_FOUND"],
  delete_user: ["USER_NOT_FOUND", "ROLE_RESERVED", "LAST_ADMINISTRATOR", "OWN_ACCOUNT"],
  read_data: ["DATA_NOT_FOUND", "PRECONDITION_FAILED", "RANGE_NOT_SATISFIABLE", "TOO_BUSY"],
  read_account_data: ["DATA_NOT_FOUND", "PRECONDITION_FAILED", "RANGE_NOT_SATISFIABLE", "TOO_BUSY"],
  record_actions: ["ACTION_EXISTS"],
  put_data: ["DATA_EXISTS", "BODY_TOO_SLOW", "UPLOAD_INTERRUPTED"],
  read_users: ["READER_TOO_SLOW"],
  read_companies: ["READER_TOO_SLOW"],
  read_audit: ["READER_TOO_SLOW"],
  update_quotas: ["USER_NOT_FOUND", "PERIOD_OVERLAP"],
  read_quotas: ["USER_NOT_FOUND"],
  delete_quotas: ["USER_NOT_FOUND", "QUOTA_NOT_FOUND"],
  read_user_alert_thresholds: ["USER_NOT_FOUND"],
  update_user_alert_thresholds: ["USER_NOT_FOUND", "ROLE_RESERVED"],
  delete_user_alert_thresholds: ["USER_NOT_FOUND", "ROLE_RESERVED"],
  read_company_alert_thresholds: ["COMPANY_NOT_FOUND"],
  update_company_alert_thresholds: ["COMPANY_NOT_FOUND"],
  delete_company_alert_thresholds: ["COMPANY_NOT_FOUND"],
  file: ["FILE_NOT_FOUND", "PRECONDITION_FAILED"],
  acquire_quota: [
    "USER_NOT_FOUND",
    ...refusals,
    "OPERATION_POINTS_DIFFER",
    "OPERATION_SETTLED",
    "COUNTERS_UNAVAILABLE",
    "LEDGER_BEHIND",
  ],
  check_quota: ["USER_NOT_FOUND", ...refusals, "COUNTERS_UNAVAILABLE"],
  get_quota_usage: ["USER_NOT_FOUND", "COUNTERS_UNAVAILABLE"],
  list_leases: ["USER_NOT_FOUND", "COUNTERS_UNAVAILABLE"],
  force_release_lease: ["LEASE_NOT_FOUND", "COUNTERS_UNAVAILABLE"],
  renew_lease: ["LEASE_NOT_FOUND", "LEASE_LOST", "COUNTERS_UNAVAILABLE"],
  settle_lease: ["LEASE_NOT_FOUND", "LEASE_SETTLED_DIFFERENTLY", "COUNTERS_UNAVAILABLE", "LEDGER_BEHIND"],
  release_lease: ["LEASE_NOT_FOUND", "LEASE_LOST", "COUNTERS_UNAVAILABLE", "LEDGER_BEHIND"],
};
