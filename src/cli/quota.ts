import { readFile } from "node:fs/promises";
import { create, fromJson, type JsonValue } from "@bufbuild/protobuf";
import {
  MethodQuotaSchema,
  QuotaAdminService,
  QuotaBaseSchema,
  type ReadQuotasResponse,
  type ServiceQuota,
  ServiceQuotaSchema,
} from "#gen/tollgate/v1/quota_pb.js";
import { Method_Group, Service_Name } from "#gen/tollgate/v1/tracedata_pb.js";
import { type CommandInput, enumOption, numberOption, optionOf, requireOption, UsageError } from "./command.ts";
import { connect } from "./connection.ts";
import { exitCodes } from "./exit-codes.ts";

/** The limits of one method group in one period, as a row. An absent number means no limit. */
interface Limits {
  readonly period: string;
  readonly service: string;
  readonly method: string;
  readonly "per request": number | undefined;
  readonly "per day": number | undefined;
  readonly "per window": number | undefined;
  readonly concurrent: number | undefined;
}

/** Prints the quotas of a user, the base quota first. */
export async function showQuota(input: CommandInput): Promise<number> {
  const quotas = await connect(input, QuotaAdminService);
  const [username = ""] = input.arguments;
  const answer = await quotas.readQuotas({ username }, { signal: input.signal });
  input.output.rows(rowsOf(answer).map((row) => ({ ...row })));
  return exitCodes.fine;
}

/** Replaces the quota of a user with that of a file, or prints the difference with --dry-run. */
export async function applyQuota(input: CommandInput): Promise<number> {
  const [username = ""] = input.arguments;
  const [from, to] = [optionOf(input, "from"), optionOf(input, "to")];
  if ((from === undefined) !== (to === undefined)) throw new UsageError("--from and --to must be set together");
  const quotas = await connect(input, QuotaAdminService);
  const quota = await readQuotaFile(requireOption(input, "file"));
  const period = from === undefined ? "base" : `${from}..${to}`;
  const present = rowsOf(await quotas.readQuotas({ username }, { signal: input.signal })).filter(
    (row) => row.period === period,
  );
  const changes = differencesOf(present, servicesToRows(period, quota.services));
  for (const change of changes) input.output.value({ change }, change);
  if (changes.length === 0) input.output.note("no change");
  if (input.options["dry-run"] === true) return changes.length === 0 ? exitCodes.fine : exitCodes.found;
  if (changes.length > 0) {
    await quotas.updateQuotas(
      { username, quota, ...(from !== undefined && { from }), ...(to !== undefined && { to }) },
      { signal: input.signal },
    );
  }
  return exitCodes.fine;
}

/** The file holds the JSON of the quota, as `PUT /admin/quotas/{username}` takes it. */
async function readQuotaFile(path: string) {
  const text = await readFile(path, "utf8").catch((error: unknown) => {
    throw new UsageError(`--file cannot be read: ${error instanceof Error ? error.message : String(error)}`);
  });
  try {
    return fromJson(QuotaBaseSchema, JSON.parse(text) as JsonValue);
  } catch (error) {
    throw new UsageError(
      `${path} must hold the JSON of a quota: ${error instanceof Error ? error.message : String(error)}`,
    );
  }
}

/** Sets the limits of one service and method group in the base quota, and keeps the others. */
export async function setQuota(input: CommandInput): Promise<number> {
  const quotas = await connect(input, QuotaAdminService);
  const [username = "", serviceName = "", methodName = ""] = input.arguments;
  const service = enumOption<Service_Name>(Service_Name, "SERVICE", serviceName);
  const methodGroup = enumOption<Method_Group>(Method_Group, "METHOD", methodName);
  const { base } = await quotas.readQuotas({ username }, { signal: input.signal });
  const services = base?.services ?? [];
  const limits = {
    pointsPerRequest: numberOption(input, "per-request"),
    pointsPerDay: numberOption(input, "per-day"),
    pointsPerDateWindow: numberOption(input, "per-window"),
    maxConcurrentExecution: numberOption(input, "concurrent"),
  };
  const method = create(MethodQuotaSchema, { methodGroup });
  const present = services
    .find((one) => one.service === service)
    ?.methods.find((one) => one.methodGroup === methodGroup);
  for (const name of Object.keys(limits) as (keyof typeof limits)[]) {
    const value = limits[name] ?? present?.[name];
    if (value !== undefined) method[name] = value;
  }
  const others = services.find((one) => one.service === service)?.methods ?? [];
  const changed = create(ServiceQuotaSchema, {
    service,
    methods: [...others.filter((one) => one.methodGroup !== methodGroup), method],
  });
  const quota = { services: [...services.filter((one) => one.service !== service), changed] };
  await quotas.updateQuotas({ username, quota }, { signal: input.signal });
  input.output.rows(
    servicesToRows("base", [create(ServiceQuotaSchema, { service, methods: [method] })]).map((row) => ({ ...row })),
  );
  return exitCodes.fine;
}

function rowsOf({ base, additional }: ReadQuotasResponse): Limits[] {
  return [
    ...servicesToRows("base", base?.services ?? []),
    ...additional.flatMap(({ from, to, services }) => servicesToRows(`${from}..${to}`, services)),
  ];
}

function servicesToRows(period: string, services: readonly ServiceQuota[]): Limits[] {
  return services.flatMap(({ service, methods }) =>
    methods.map((method) => ({
      period,
      service: Service_Name[service],
      method: Method_Group[method.methodGroup],
      // The defaults of the protocol: answers always carry both.
      "per request": method.pointsPerRequest ?? 1_000_000,
      "per day": method.pointsPerDay ?? 100_000_000,
      "per window": method.pointsPerDateWindow,
      concurrent: method.maxConcurrentExecution,
    })),
  );
}

const limitNames = ["per request", "per day", "per window", "concurrent"] as const;

/** Says in words what changes: one line for each limit that is added, changed or removed. */
function differencesOf(present: readonly Limits[], wanted: readonly Limits[]): string[] {
  const keyOf = ({ service, method }: Limits) => `${service} ${method}`;
  const textOf = (value: number | undefined) => (value === undefined ? "unlimited" : String(value));
  const before = new Map(present.map((row) => [keyOf(row), row]));
  const after = new Map(wanted.map((row) => [keyOf(row), row]));
  const added = [...after].filter(([key]) => !before.has(key));
  const removed = [...before.keys()].filter((key) => !after.has(key));
  return [
    ...added.map(([key, row]) => `add ${key}: ${limitNames.map((name) => `${name} ${textOf(row[name])}`).join(", ")}`),
    ...[...after].flatMap(([key, row]) =>
      limitNames
        .filter((name) => before.has(key) && before.get(key)?.[name] !== row[name])
        .map((name) => `change ${key}: ${name} from ${textOf(before.get(key)?.[name])} to ${textOf(row[name])}`),
    ),
    ...removed.map((key) => `remove ${key}`),
  ];
}
