/**
 * Measures what validation, identity, origin and log take of a call, in processor time: each step of the pipeline in a
 * loop of its own, in rounds that alternate. Run by hand: npm run bench:steps.
 */
import { create } from "@bufbuild/protobuf";
import { pino } from "pino";
import { Role_Name } from "#gen/tollgate/v1/access_pb.js";
import { AcquireQuotaRequestSchema, QuotaService, SettleLeaseRequestSchema } from "#gen/tollgate/v1/lease_pb.js";

import { createContext } from "../../src/call/context.ts";
import { createCallLog } from "../../src/pipeline/call-log.ts";
import { originValues, readOrigin } from "../../src/pipeline/client-origin.ts";
import { admitCaller, requestStateOf } from "../../src/pipeline/request-state.ts";
import { createValidate } from "../../src/pipeline/validate.ts";
import { median } from "./fixture.ts";

const calls = 100_000;
const rounds = 9;

const method = QuotaService.method.acquireQuota;
const path = `/${QuotaService.typeName}/${method.name}`;
const headers = { ":path": path, authorization: `Bearer ${"x".repeat(300)}`, "content-type": "application/grpc" };
const acquire = create(AcquireQuotaRequestSchema, {
  username: "user_1",
  service: 1,
  methodGroup: 3,
  points: 3,
  operationId: "11111111-2222-4333-8444-555555555555",
});
const settle = create(SettleLeaseRequestSchema, { leaseId: "x".repeat(60), points: 3, outcome: 1 });
const principal = { userId: 1, username: "planner", companyKey: "acme", roles: [Role_Name.BOT], timezone: 0 };
const tokens = new Map([["x".repeat(300), principal]]);
const options = {
  serverName: "server",
  now: Date.now,
  authenticator: { peek: (token: string) => tokens.get(token), authenticate: async () => principal },
};
const logCall = createCallLog({ ...options, logger: pino({ level: "info" }, { write: () => undefined }) });
const validate = createValidate();

const origin = () => originValues(readOrigin(headers, "127.0.0.1", 0, undefined));
const values = origin();
const context = createContext({
  method,
  requestMethod: "POST",
  route: path,
  url: path,
  headers,
  values,
  protocolName: "grpc",
  timeoutMs: undefined,
  response: { once: () => undefined },
});
const requestState = requestStateOf(context, options);
const sent = { httpMethod: "POST", status: undefined, bytes: 100, isComplete: true };

const steps: Readonly<Record<string, () => unknown>> = {
  "validation of an acquire": () => validate(AcquireQuotaRequestSchema, acquire),
  "validation of a settlement": () => validate(SettleLeaseRequestSchema, settle),
  "identity, the token in the cache": () => {
    requestState.isAdmitted = false;
    return admitCaller(options, context, requestState);
  },
  "origin, tracecode and state": () => requestStateOf({ values: origin() }, options),
  "log line, without its write": () => logCall(values, sent),
};
const micros = new Map(Object.keys(steps).map((name) => [name, [] as number[]]));
for (let round = 0; round < rounds; round += 1) {
  for (const [name, step] of Object.entries(steps)) {
    const before = process.cpuUsage();
    for (let call = 0; call < calls; call += 1) step();
    const { user, system } = process.cpuUsage(before);
    micros.get(name)?.push((user + system) / calls);
  }
}
for (const [name, all] of micros) console.log(`${name}: ${median(all).toFixed(2)} µs a call`);
