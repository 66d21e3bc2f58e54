import { hostname } from "node:os";
import { z } from "zod";
import { parseRedisUrl } from "./redis/url.ts";
import { parseThresholds, thresholdRule } from "./shared/thresholds.ts";
import { findWeakness } from "./shared/weak-secret.ts";

// Settings are checked against these fixed limits.

/** How long a transaction may idle between two statements. Then PostgreSQL ends it and frees its locks. */
export const idleInTransactionTimeoutMs = 60_000;
/** How long an HTTP/1.1 request may take as a whole. */
export const requestTimeoutMs = 3_600_000;
/** The minimum rate of an upload, one megabit per second. An upload may fall behind it by BODY_TIMEOUT_MS in all. */
export const minUploadBytesPerSecond = 131_072;

/** One row of docs/configuration.md. */
interface Setting<Schema extends z.ZodType = z.ZodType> {
  readonly schema: Schema;
  /** The default value in docs/configuration.md. */
  readonly default: string;
  readonly meaning: string;
}

const count = (least: number, most: number, rule = `must be ${least} to ${most}`) =>
  z
    .string()
    .regex(/^\d+$/, "must be a whole number")
    .transform(Number)
    .pipe(z.number().min(least, rule).max(most, rule));
const webhookKeyPrefix = "whsec_";
const port = count(0, 65_535);
const optionalPort = z
  .string()
  .transform((value) => value || undefined)
  .pipe(port.optional());
const text = z.string();
const word = (least: number) =>
  z.string().regex(new RegExp(`^\\w{${least},256}$`), `must be ${least} to 256 letters, digits or underscores`);
const upTo = (most: number) => z.string().max(most, `must have ${most} characters or fewer`);
const oneOf = <const Names extends readonly string[]>(...names: Names) =>
  z.enum(names, `must be one of ${names.join(", ")}`);
const flag = oneOf("true", "false").transform((value) => value === "true");
const secrets = z
  .string()
  .transform((list) => list.split(",").filter((secret) => secret !== ""))
  .superRefine((list, context) => {
    const rule = list.map((secret) => findWeakness(secret)).find((weakness) => weakness !== undefined);
    if (rule !== undefined) context.addIssue({ code: "custom", message: `each key ${rule}` });
  });
const webhookUrl = text.refine(
  (url) => url === "" || isWebhookUrl(url),
  "must begin with https://, or http:// on this machine, and must not have a username",
);
const webhookKeys = z.string().transform((list, context) => {
  const keys = list.split(",").filter((key) => key !== "");
  // The message must not contain a key.
  if (!keys.every(isWebhookKey)) {
    context.addIssue({ code: "custom", message: "each key must be whsec_ and 24 to 64 bytes in base64" });
  }
  return keys.map((key) => Buffer.from(key.slice(webhookKeyPrefix.length), "base64"));
});
const thresholds = z.string().transform((list, context) => {
  const parsed = parseThresholds(list);
  if (parsed === undefined) context.addIssue({ code: "custom", message: thresholdRule });
  return parsed ?? z.NEVER;
});

const origins = z
  .string()
  .transform((list) => list.split(",").flatMap((origin) => origin.trim() || []))
  .refine(
    (list) => list.every((origin) => origin === "*" || isOrigin(origin)),
    "each must be * or an origin without a path, such as https://app.example.com",
  );

/** Every setting there is, by the name of its environment variable. */
export const settings = {
  PORT: setting(port, "8080", "Port of all transports; 0 selects a free one."),
  HOST: setting(text, "0.0.0.0", "Address to listen on."),
  METRICS_PORT: setting(
    optionalPort,
    "",
    "Port of `GET /metrics` for Prometheus; 0 selects a free one. It must not be public. Empty: no metrics.",
  ),
  METRICS_HOST: setting(text, "", "Address to listen on for metrics. Empty: HOST."),
  WORKERS: setting(
    count(1, 256),
    "1",
    "Processes that serve the port, each with its own connections. More than one need DATABASE_URL and REDIS_URL.",
  ),
  DATABASE_URL: setting(text, "", "PostgreSQL, `postgres://…`. Empty: an embedded server with its data in DATA_DIR."),
  DATABASE_POOL: setting(
    // Lists and uploads may keep up to three of five; a change may need one beside its own.
    count(5, 1000, "must be 5 to 1000: long lists and uploads hold some, and all other calls need the rest"),
    "10",
    "Connections to PostgreSQL, 5 or more. Calls without a token have four more of their own.",
  ),
  DATABASE_TIMEOUT_MS: setting(
    count(100, 600_000),
    "10000",
    "The longest time of a statement. A statement of a long list may run for at least two minutes.",
  ),
  REDIS_URL: setting(
    text,
    "",
    "Redis, for the counters of quotas: `redis://host`, `redis+cluster://host,host`, `redis+sentinel://host,host/master`, or `rediss…` with TLS. Empty: counters are kept in this process, and only one server may run.",
  ),
  DATA_DIR: setting(text, ".tollgate", "Folder of the embedded server's data and key."),
  TOKEN_KEYS: setting(
    secrets,
    "",
    "Secrets that sign tokens, comma-separated. The first one signs, all are accepted. Each must have 32 characters or more, 10 of them different, and must not be a repeated text, a run or a placeholder. Must be set with DATABASE_URL. Otherwise one is made and kept in DATA_DIR.",
  ),
  PASSWORD_POLICY: setting(
    oneOf("basic", "strict"),
    "basic",
    "Rules for new passwords. `basic`: 5 to 256 characters. `strict`: also not one of the 10,000 most common ones, and not one that contains the username.",
  ),
  ADMIN_USERNAME: setting(word(2), "admin", "The administrator that the first start creates."),
  ADMIN_PASSWORD: setting(
    upTo(256).refine((password) => password === "" || password.length >= 5, "must have 5 characters or more"),
    "",
    "The first administrator's password. Empty: one is made, and written to `admin.password` in DATA_DIR, or with DATABASE_URL printed once.",
  ),
  ADMIN_COMPANY: setting(word(3), "administration", "The first administrator's company."),
  LOGIN_FAILURES: setting(count(1, 1_000_000), "10", "Failed logins of one name from one address in 15 minutes."),
  LOGIN_FAILURES_BY_ADDRESS: setting(count(1, 1_000_000), "200", "Failed logins from one address in 15 minutes."),
  QUOTA_DEFAULT: setting(
    oneOf("refuse", "unlimited"),
    "refuse",
    "Whether a user without a quota for a service and method group is refused or unlimited.",
  ),
  QUOTA_FAIL_OPEN: setting(
    flag,
    "false",
    "`true`: while Redis is unavailable, each server decides alone from the ledger and marks grants `degraded_open`. `false`: it answers UNAVAILABLE.",
  ),
  QUOTA_REMEMBER_SECONDS: setting(
    count(60, 604_800),
    "86400",
    "How long the counters remember an ended operation. A repeated acquire of a settled operation is refused during this time. Later it is granted, and the ledger charges it once if it is settled on the same day.",
  ),
  QUOTA_REMEMBER_OPERATIONS: setting(
    count(100, 100_000),
    "2000",
    "How many of the last ended operations the counters remember for a user, service and method group. Each takes about 250 bytes.",
  ),
  LEDGER_ACK: setting(
    oneOf("later", "commit"),
    "later",
    "When a grant is answered: before it is committed to PostgreSQL, which follows within 50 ms (`later`), or after (`commit`, some milliseconds slower).",
  ),
  DRIFT_CHECK_SECONDS: setting(
    count(0, 86_400),
    "60",
    "How often 20 counters in Redis are compared with the ledger. The log and the metrics show each difference. 0: never.",
  ),
  LEDGER_RETENTION_DAYS: setting(count(40, 100_000), "400", "How long the leases of a day are kept."),
  AUDIT_RETENTION_DAYS: setting(count(40, 100_000), "400", "How long the audit log of a day is kept."),
  DATA_RETENTION_DAYS: setting(count(1, 100_000), "90", "How long the data of a tracecode is kept."),
  DATA_MAX_BYTES: setting(count(1, 4_294_967_296), "268435456", "The largest data of a tracecode."),
  WEBHOOK_URL: setting(
    webhookUrl,
    "",
    "Address that alerts are sent to, as signed webhooks. Empty: there are no alerts. docs/operations.md describes them.",
  ),
  WEBHOOK_SECRET: setting(
    webhookKeys,
    "",
    "Keys that sign webhooks, comma-separated: `whsec_` and 24 to 64 bytes in base64. Each webhook has a signature of each.",
  ),
  ALERT_THRESHOLDS: setting(
    thresholds,
    "80%,95%,100%",
    "Which part of `points_per_day` and `points_per_date_window`, or how many points, raise an alert. `off`: none. Lists of a company and of a user may follow: `80%,100% company:acme=50%,5000 user:alice=off`.",
  ),
  AUDIT_SINK_URL: setting(
    webhookUrl,
    "",
    "Address that audit actions are sent to, in signed batches. All servers of a database need the same value. Empty: actions are not sent. docs/operations.md describes them.",
  ),
  AUDIT_SINK_SECRET: setting(webhookKeys, "", "Keys that sign the batches. The form is that of WEBHOOK_SECRET."),
  TRUSTED_PROXIES: setting(count(0, 10), "0", "Proxies in front that add an address to X-Forwarded-For."),
  CORS_ORIGINS: setting(
    origins,
    "",
    "The origins whose pages may call the server from a browser, comma-separated, such as `https://app.example.com`. `*`: all. Empty: none.",
  ),
  TLS_CERT: setting(
    text,
    "",
    "File of the certificate chain, PEM. With TLS_KEY: the port accepts TLS only. Both files are read again when they change.",
  ),
  TLS_KEY: setting(text, "", "File of the certificate's key, PEM."),
  MAX_BODY_BYTES: setting(count(1024, 1_073_741_824), "1048576", "The largest message of a request."),
  BODY_TIMEOUT_MS: setting(
    count(100, 600_000),
    "30000",
    "The longest time to send the body of a call or the next part of an upload, and how far an upload may fall behind 128 KiB a second. Other streams may pause.",
  ),
  MAX_CONNECTION_AGE_MS: setting(
    count(0, 86_400_000),
    "1800000",
    "The age at which a connection takes no further calls, give or take a tenth: clients then connect again and spread over the replicas. Running calls finish. 0: no limit.",
  ),
  DRAIN_DELAY_MS: setting(
    count(0, 600_000),
    "0",
    "How long after SIGTERM the server still takes calls while `/readyz` and `grpc.health.v1` say that it does not: the time in which load balancers notice.",
  ),
  DRAIN_MS: setting(count(0, 600_000), "10000", "How long running calls may take after SIGTERM and DRAIN_DELAY_MS."),
  SERVER_NAME: setting(
    upTo(256).transform((name) => name || hostname()),
    "",
    "The name of this server in tracedata and log. Empty: the host's name.",
  ),
  LOG_LEVEL: setting(
    oneOf("fatal", "error", "warn", "info", "debug", "silent"),
    "info",
    "The lowest level that is logged.",
  ),
  OTEL_EXPORTER_OTLP_ENDPOINT: setting(
    text.refine((url) => url === "" || URL.canParse(url), "must be a URL such as http://collector:4318"),
    "",
    "The collector that receives spans by OTLP over HTTP. Empty: no tracing. The other OTEL_… variables of OpenTelemetry apply, such as OTEL_TRACES_SAMPLER.",
  ),
  LOG_FORMAT: setting(
    oneOf("auto", "json", "pretty"),
    "auto",
    "`json`: one JSON line per event. `pretty`: readable lines. `auto`: `pretty` in a terminal, `json` elsewhere.",
  ),
  COMMIT: setting(text, "", "The commit of the image. Empty: read from git."),
} as const;

export type Config = { readonly [Name in keyof typeof settings]: z.output<(typeof settings)[Name]["schema"]> };

/** A value that the server does not start with. The message is one line. */
export class ConfigError extends Error {}

/**
 * Reads every setting from the environment; an empty variable counts as an absent one.
 * @throws ConfigError that names the variable and the rule
 */
export function readConfig(environment: Readonly<Record<string, string | undefined>>): Config {
  const config: Record<string, unknown> = {};
  for (const [name, { schema, default: fallback }] of Object.entries<Setting>(settings)) {
    const result = schema.safeParse(environment[name] || fallback);
    if (!result.success) throw new ConfigError(`${name}: ${result.error.issues[0]?.message ?? "is not valid"}`);
    config[name] = result.data;
  }
  checkTogether(config as Config);
  return config as Config;
}

function checkTogether(config: Config): void {
  for (const name of ["WEBHOOK", "AUDIT_SINK"] as const) {
    if ((config[`${name}_URL`] === "") === (config[`${name}_SECRET`].length === 0)) continue;
    throw new ConfigError(`${name}_URL and ${name}_SECRET: must be set together`);
  }
  if ((config.TLS_CERT === "") !== (config.TLS_KEY === "")) {
    throw new ConfigError("TLS_CERT and TLS_KEY: must be set together");
  }
  if (config.DATABASE_URL !== "" && !/^postgres(ql)?:\/\//.test(config.DATABASE_URL)) {
    throw new ConfigError("DATABASE_URL: must begin with postgres://");
  }
  if (config.REDIS_URL !== "" && parseRedisUrl(config.REDIS_URL) === undefined) {
    throw new ConfigError(
      "REDIS_URL: must be redis://host, redis+cluster://host,host or redis+sentinel://host,host/master",
    );
  }
  if (config.WORKERS > 1 && (config.DATABASE_URL === "" || config.REDIS_URL === "")) {
    throw new ConfigError("WORKERS: must be 1 without DATABASE_URL and REDIS_URL, which workers share");
  }
  if (config.BODY_TIMEOUT_MS >= idleInTransactionTimeoutMs) {
    throw new ConfigError(
      `BODY_TIMEOUT_MS: must be less than ${idleInTransactionTimeoutMs}: PostgreSQL ends an upload that waits that long for its next piece`,
    );
  }
  const mostUploadBytes = (minUploadBytesPerSecond * requestTimeoutMs) / 1000;
  if (config.DATA_MAX_BYTES > mostUploadBytes) {
    throw new ConfigError(
      `DATA_MAX_BYTES: must be at most ${mostUploadBytes}: at 128 KiB a second, the minimum rate, a longer upload exceeds the hour that a request may take`,
    );
  }
  if (config.DATABASE_URL !== "" && config.TOKEN_KEYS.length === 0) {
    throw new ConfigError("TOKEN_KEYS: must be set with DATABASE_URL, so that every replica accepts every token");
  }
}

/** Whether a browser would send the text as the header Origin. */
function isOrigin(text: string): boolean {
  return /^https?:/.test(text) && URL.canParse(text) && new URL(text).origin === text;
}

function isWebhookUrl(text: string): boolean {
  if (!URL.canParse(text)) return false;
  const { protocol, hostname: host, username, password } = new URL(text);
  // fetch refuses such an address by an error that has the password.
  if (username !== "" || password !== "") return false;
  return protocol === "https:" || (protocol === "http:" && ["localhost", "127.0.0.1", "[::1]"].includes(host));
}

function isWebhookKey(text: string): boolean {
  const key = Buffer.from(text.slice(webhookKeyPrefix.length), "base64");
  const isWhole = text === webhookKeyPrefix + key.toString("base64");
  return isWhole && key.length >= 24 && key.length <= 64;
}

function setting<Schema extends z.ZodType>(schema: Schema, fallback: string, meaning: string): Setting<Schema> {
  return { schema, default: fallback, meaning };
}
