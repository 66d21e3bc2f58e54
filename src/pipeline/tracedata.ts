import { randomUUID } from "node:crypto";
import { create, type DescMethod } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { Service_Name, type Tracedata, TracedataSchema } from "#gen/tollgate/v1/tracedata_pb.js";
import { snakeCase } from "../gateway/fields.ts";
import type { Principal } from "../shared/principal.ts";

/** The header with the tracecode, in requests and responses. */
export const tracecodeHeader = "tracecode";

const uuid = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;

/** Returns the caller's tracecode, or a new one when the header is missing or not a UUID. */
export function tracecodeOf(header: string | string[] | null | undefined): string {
  return isTracecode(header) ? header : randomUUID();
}

/** Whether a value is a UUID in text form. */
export function isTracecode(text: unknown): text is string {
  return typeof text === "string" && uuid.test(text);
}

/** Creates the tracedata that links a call to its error, its audit record and its log lines. */
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

/** Returns `{company_key}_|_{username}`, the contract's form of a client. */
export function clientOf(principal: Principal | undefined): string {
  return `${principal?.companyKey ?? ""}_|_${principal?.username ?? ""}`;
}

const operations = new WeakMap<DescMethod, string>();

/** Returns the contract's name of an operation: `CreateCompany` → `create_company`. */
export function operationOf(method: DescMethod): string {
  const known = operations.get(method);
  if (known !== undefined) return known;
  const operation = snakeCase(method.name);
  operations.set(method, operation);
  return operation;
}
