import { randomUUID } from "node:crypto";
import { create, type DescMethod } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { Service_Name, type Tracedata, TracedataSchema } from "#gen/tollgate/v1/tracedata_pb.js";
import type { Principal } from "../shared/principal.ts";

/** The header that carries the code, both ways. */
export const tracecodeHeader = "tracecode";

const uuid = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;

/** The caller's code, or one made here where there is none or none that is a UUID. */
export function tracecodeOf(header: string | string[] | null | undefined): string {
  return isTracecode(header) ? header : randomUUID();
}

export function isTracecode(text: unknown): text is string {
  return typeof text === "string" && uuid.test(text);
}

/** What joins a call, its error, its audit record and its log lines. */
export function createTracedata(options: {
  code: string;
  server: string;
  method: DescMethod | undefined;
  principal: Principal | undefined;
  timeMs: number;
}): Tracedata {
  const { code, server, method, principal } = options;
  return create(TracedataSchema, {
    code,
    client: clientOf(principal),
    server,
    service: Service_Name.ADMIN,
    operation: method === undefined ? "no_operation" : operationOf(method),
    time: timestampFromMs(options.timeMs),
  });
}

/** `{company_key}_|_{username}`, as the contract writes a client. */
export function clientOf(principal: Principal | undefined): string {
  return `${principal?.companyKey ?? ""}_|_${principal?.username ?? ""}`;
}

const operations = new WeakMap<DescMethod, string>();

/** `CreateCompany` → `create_company`, the contract's spelling. */
export function operationOf(method: DescMethod): string {
  const known = operations.get(method);
  if (known !== undefined) return known;
  const operation = method.name.replaceAll(/(?<=[a-z0-9])(?=[A-Z])/g, "_").toLowerCase();
  operations.set(method, operation);
  return operation;
}
