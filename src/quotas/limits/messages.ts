import type { MessageInitShape } from "@bufbuild/protobuf";
import type { MethodQuota, PeriodQuotaSchema, QuotaBase, ServiceQuotaSchema } from "#gen/tollgate/v1/quota_pb.js";
import { Method_Group, Service_Name } from "#gen/tollgate/v1/tracedata_pb.js";
import { requirePresent } from "../../shared/handler.ts";
import { fromStoredName, toStoredName } from "../../shared/stored-names.ts";
import type { QuotaRow, StoredQuota } from "./store.ts";

/** Converts a requested quota to its rows. */
export function toRows({ services }: QuotaBase): QuotaRow[] {
  return services.flatMap(({ service, methods }) =>
    methods.map((method) => toRow(toStoredName("service", Service_Name[service]), method)),
  );
}

/** Groups the rows of one quota by service. */
export function toServices(rows: readonly QuotaRow[]): MessageInitShape<typeof ServiceQuotaSchema>[] {
  return [...groupBy(rows, ({ service }) => service)].map(([service, methods]) => ({
    service: Service_Name[fromStoredName("service", service) as keyof typeof Service_Name],
    methods: methods.map((row) => toMethod(row)),
  }));
}

/** Groups rows by period, each with its services. */
export function toPeriods(rows: readonly StoredQuota[]): MessageInitShape<typeof PeriodQuotaSchema>[] {
  return [...groupBy(rows, ({ from, to }) => `${from}..${to}`).values()].map((ofPeriod) => ({
    from: ofPeriod[0]?.from ?? "",
    to: ofPeriod[0]?.to ?? "",
    services: toServices(ofPeriod),
  }));
}

function toRow(service: string, method: MethodQuota): QuotaRow {
  return {
    service,
    method_group: toStoredName("methodGroup", Method_Group[method.methodGroup]),
    points_per_request: requirePresent(method.pointsPerRequest),
    points_per_day: requirePresent(method.pointsPerDay),
    points_per_date_window: method.pointsPerDateWindow ?? null,
    max_concurrent_execution: method.maxConcurrentExecution ?? null,
  };
}

function toMethod(row: QuotaRow) {
  return {
    methodGroup: Method_Group[fromStoredName("methodGroup", row.method_group) as keyof typeof Method_Group],
    pointsPerRequest: row.points_per_request,
    pointsPerDay: row.points_per_day,
    ...(row.points_per_date_window !== null && { pointsPerDateWindow: row.points_per_date_window }),
    ...(row.max_concurrent_execution !== null && { maxConcurrentExecution: row.max_concurrent_execution }),
  };
}

/** Groups in the order of first appearance. */
function groupBy<Item>(items: readonly Item[], keyOf: (item: Item) => string): Map<string, Item[]> {
  const groups = new Map<string, Item[]>();
  for (const item of items) {
    const group = groups.get(keyOf(item));
    if (group === undefined) groups.set(keyOf(item), [item]);
    else group.push(item);
  }
  return groups;
}
