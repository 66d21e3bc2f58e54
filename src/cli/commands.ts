import { type CommandDefinition, type CommandInput, UsageError } from "./command.ts";
import { createCompletion } from "./help.ts";

const period = {
  from: { value: "DAY", meaning: "first day, YYYY-MM-DD" },
  to: { value: "DAY", meaning: "day after the last one, YYYY-MM-DD" },
};
const limit = { value: "N", meaning: "the most rows; 1000 by default" };
const alertOwner = {
  user: { value: "NAME", meaning: "the user" },
  company: { value: "KEY", meaning: "the company" },
};
const password = { meaning: "read the password from stdin; by default one is made and printed" };

/** Every command, in the order of the help. */
export const commands: readonly CommandDefinition[] = [
  { name: "serve", summary: "Start the server", load: async () => (await import("./serve.ts")).serve },
  {
    name: "migrate",
    summary: "Bring the database to the version of this code",
    load: async () => (await import("./migrate.ts")).migrateDatabase,
  },
  {
    name: "doctor",
    summary: "Check settings, versions, locale, extensions, eviction policy and clocks, and say what to do",
    load: async () => (await import("./doctor.ts")).diagnose,
  },
  {
    name: "token",
    summary: "Log in and print a token",
    options: {
      username: {
        value: "NAME",
        meaning: "the user; TOLLGATE_USERNAME by default. The password is TOLLGATE_PASSWORD or stdin",
      },
      ttl: { value: "SECONDS", meaning: "how long the token is valid; a day by default" },
    },
    load: async () => (await import("./token.ts")).createToken,
  },
  {
    name: "user list",
    summary: "List users",
    options: {
      company: { value: "KEY", meaning: "users of this company only" },
      filter: { value: "TEXT", meaning: "users whose name or username contains the text" },
      limit,
    },
    load: async () => (await import("./user.ts")).listUsers,
  },
  {
    name: "user create",
    summary: "Create a user and print the password",
    arguments: ["USERNAME"],
    options: {
      company: { value: "KEY", meaning: "the company, required" },
      roles: { value: "ROLE,...", meaning: "ADMIN, PARTNER, USER or BOT; USER by default" },
      timezone: { value: "HOURS", meaning: "offset from UTC, -12 to 12; 0 by default" },
      "password-stdin": password,
    },
    load: async () => (await import("./user.ts")).createUser,
  },
  {
    name: "user block",
    summary: "Block a user: calls and logins are refused",
    arguments: ["USERNAME"],
    options: { undo: { meaning: "enable the user again" } },
    load: async () => (await import("./user.ts")).blockUser,
  },
  {
    name: "user reset-password",
    summary: "Set a new password, which revokes the user's tokens",
    arguments: ["USERNAME"],
    options: { "password-stdin": password },
    load: async () => (await import("./user.ts")).resetPassword,
  },
  {
    name: "company list",
    summary: "List companies",
    options: { filter: { value: "TEXT", meaning: "companies whose key or detail contains the text" }, limit },
    load: async () => (await import("./company.ts")).listCompanies,
  },
  {
    name: "company create",
    summary: "Create a company",
    arguments: ["KEY"],
    options: { detail: { value: "TEXT", meaning: "a description" } },
    load: async () => (await import("./company.ts")).createCompany,
  },
  {
    name: "quota show",
    summary: "Print the quotas of a user",
    arguments: ["USERNAME"],
    load: async () => (await import("./quota.ts")).showQuota,
  },
  {
    name: "quota set",
    summary: "Set limits of one service and method group in the base quota, and keep all others",
    arguments: ["USERNAME", "SERVICE", "METHOD"],
    options: {
      "per-request": { value: "POINTS", meaning: "the most points of a request" },
      "per-day": { value: "POINTS", meaning: "the most points of a day" },
      "per-window": { value: "POINTS", meaning: "the most points of the calendar month" },
      concurrent: { value: "N", meaning: "the most calculations at once" },
    },
    load: async () => (await import("./quota.ts")).setQuota,
  },
  {
    name: "quota apply",
    summary: "Replace the base quota, or that of a period, with the JSON of a file",
    arguments: ["USERNAME"],
    options: {
      file: { short: "f", value: "FILE", meaning: "the body of PUT /admin/quotas/{username}, required" },
      ...period,
      "dry-run": { meaning: "print what would change, and exit with 1 if anything would" },
    },
    load: async () => (await import("./quota.ts")).applyQuota,
  },
  {
    name: "usage",
    summary: "Print what a user has used and reserved of each limit",
    arguments: ["USERNAME"],
    load: async () => (await import("./usage.ts")).showUsage,
  },
  {
    name: "lease list",
    summary: "List the live leases of a user and their holders",
    arguments: ["USERNAME"],
    load: async () => (await import("./lease.ts")).listLeases,
  },
  {
    name: "lease release",
    summary: "Free the slot and the points of a lease, recorded in the audit log",
    arguments: ["LEASE"],
    load: async () => (await import("./lease.ts")).forceReleaseLease,
  },
  {
    name: "audit",
    summary: "Print the last actions of the audit log, oldest first",
    options: {
      username: { value: "NAME", meaning: "actions of this user only" },
      company: { value: "KEY", meaning: "actions of this company only" },
      operation: { value: "NAME", meaning: "actions of this operation only" },
      from: { value: "TIME", meaning: "earliest time, such as 2026-11-25T09:30:00Z" },
      to: { value: "TIME", meaning: "latest time" },
      limit: { value: "N", meaning: "the most rows; 100 by default" },
      follow: { meaning: "go on with new actions until interrupted" },
    },
    load: async () => (await import("./audit.ts")).showAudit,
  },
  {
    name: "report",
    summary: "Save the usage report as a workbook",
    options: {
      output: { value: "FILE", meaning: "the file to write, required" },
      username: { value: "NAME", meaning: "usage of this user only" },
      ...period,
    },
    load: async () => (await import("./report.ts")).saveReport,
  },
  {
    name: "verify",
    summary: "Compare usage, the ledger and the counters in Redis, and print what differs",
    options: period,
    load: async () => (await import("./verify.ts")).verifyRecords,
  },
  {
    name: "alert show",
    summary: "Print the alert thresholds that apply to a user or a company, and where they are set",
    options: alertOwner,
    load: async () => (await import("./alert.ts")).showAlert,
  },
  {
    name: "alert set",
    summary:
      "Set the alert thresholds of a user or a company: a list such as 80%,5000, off, or default to remove its own",
    arguments: ["THRESHOLDS"],
    options: alertOwner,
    load: async () => (await import("./alert.ts")).setAlert,
  },
  {
    name: "webhook list",
    summary: "List the alerts that were not sent, and why",
    load: async () => (await import("./webhook.ts")).listWebhooks,
  },
  {
    name: "webhook retry",
    summary: "Send abandoned alerts again: one, or all without an id",
    arguments: ["ID?"],
    load: async () => (await import("./webhook.ts")).retryWebhooks,
  },
  {
    name: "backup",
    summary: "Write the whole database, as it is at one moment, to a file or stdout",
    options: { output: { value: "FILE", meaning: "the file to write, which must not exist; stdout by default" } },
    load: async () => (await import("./backup.ts")).backUpDatabase,
  },
  {
    name: "restore",
    summary: "Restore a backup into an empty database, and migrate it",
    arguments: ["FILE"],
    load: async () => (await import("./restore.ts")).restoreDatabase,
  },
  {
    name: "completion",
    summary: "Print a completion script for bash or zsh",
    arguments: ["SHELL"],
    load: async () => printCompletion,
  },
];

async function printCompletion(input: CommandInput): Promise<number> {
  const [shell] = input.arguments;
  if (shell !== "bash" && shell !== "zsh") throw new UsageError("SHELL must be bash or zsh");
  const script = createCompletion(commands, shell);
  input.output.value(script, script);
  return 0;
}
