import { randomUUID } from "node:crypto";
import {
  create,
  type DescEnum,
  type DescField,
  type DescMessage,
  type DescMethod,
  type DescService,
  type Message,
  ScalarType,
} from "@bufbuild/protobuf";
import { reflect } from "@bufbuild/protobuf/reflect";
import { createValidator } from "@bufbuild/protovalidate";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { afterAll, beforeAll, expect, test } from "vitest";
import { AuditService } from "#gen/tollgate/v1/audit_pb.js";
import { CompanyService } from "#gen/tollgate/v1/company_pb.js";
import { DataService } from "#gen/tollgate/v1/data_pb.js";
import { QuotaService } from "#gen/tollgate/v1/lease_pb.js";
import { QuotaAdminService } from "#gen/tollgate/v1/quota_pb.js";
import { StatisticsService } from "#gen/tollgate/v1/statistics_pb.js";
import { UserService } from "#gen/tollgate/v1/user_pb.js";
import { type Json, startTestApp, type TestApp } from "../support/app.ts";
import { runs } from "../support/runs.ts";

/** By hand, for longer: FUZZ="7 100000" npx vitest run test/pipeline/storable.test.ts. A seed, and how many calls. */
const [seed = 0, most = 0] = (process.env["FUZZ"] ?? `1 ${runs(250)}`).split(" ").map(Number);

const services: readonly DescService[] = [
  AuditService,
  CompanyService,
  DataService,
  QuotaService,
  QuotaAdminService,
  StatisticsService,
  UserService,
];
const validator = createValidator();
const longText = "ü".repeat(256);

let app: TestApp;
let username: string;
/** The user of the leases that are settled and renewed. No request changes this user, and no limit applies. */
let holder: string;
beforeAll(async () => {
  app = await startTestApp({ QUOTA_DEFAULT: "unlimited" });
  username = await app.user();
  const services = [
    {
      service: "ROUTING",
      methods: [
        {
          method_group: "PLAN",
          points_per_request: 1_000_000,
          points_per_day: 100_000_000,
          max_concurrent_execution: 1000,
        },
      ],
    },
  ];
  holder = await app.user();
  await app.http("PUT", `/admin/quotas/${username}`, { token: app.admin, body: { services } });
});
afterAll(() => app.stop());

/** Values that a field of a valid request has, by its name. */
function usual(field: DescField, leaseId: string): Json {
  const byName: Record<string, Json> = {
    username,
    company_key: "administration",
    lease_id: leaseId,
    tracecode: randomUUID(),
    operation_id: randomUUID(),
    operation: "run_plan",
    points: 3,
    service: 2,
    service_name: 2,
    method_group: 3,
    key: `company_${randomUUID().slice(0, 8)}`,
    password: "correct horse",
    from: undefined,
    to: undefined,
    time: { seconds: BigInt(Math.floor(Date.now() / 1000)), nanos: 0 },
  };
  return byName[field.name];
}

/** Values at the ends of what a field's type can be. */
function extremes(field: DescField): Json[] {
  if (field.fieldKind === "enum") return [...enumNumbers(field.enum), 999];
  if (field.fieldKind === "list" && field.listKind === "scalar")
    return scalars(field.scalar).map((value) => [value, value]);
  if (field.fieldKind === "scalar") return scalars(field.scalar);
  if (field.fieldKind !== "message") return [];
  if (field.message.typeName === "google.protobuf.Duration")
    return [10n ** 18n, -1n, 315_576_000_000n, 31_622_400n].flatMap((seconds) => [
      { seconds, nanos: 0 },
      { seconds, nanos: seconds < 0n ? -999_999_999 : 999_999_999 },
    ]);
  if (field.message.typeName === "google.protobuf.Timestamp")
    return [-62_135_596_800n, 253_402_300_799n, 0n, 10n ** 17n].map((seconds) => ({ seconds, nanos: 999_999_999 }));
  return [];
}

function enumNumbers({ values }: DescEnum): number[] {
  return values.map(({ number }) => number);
}

function scalars(type: ScalarType): Json[] {
  switch (type) {
    case ScalarType.STRING:
      return [
        "",
        "a",
        longText,
        "x\u0000y",
        "\ud800",
        "' or 1=1 --",
        "%",
        "9999-12-31",
        "0001-01-01",
        "2024-02-30",
        "-infinity",
        randomUUID(),
        Buffer.alloc(29, 255).toString("base64url"),
        Buffer.from([1, ...Buffer.alloc(28, 127)]).toString("base64url"),
      ];
    case ScalarType.BOOL:
      return [true, false];
    case ScalarType.BYTES:
      return [new Uint8Array(0), new Uint8Array(10)];
    case ScalarType.DOUBLE:
    case ScalarType.FLOAT:
      return [0, -1, Number.NaN, Number.POSITIVE_INFINITY, 1e308];
    case ScalarType.INT32:
    case ScalarType.SINT32:
    case ScalarType.SFIXED32:
      return [0, -1, 2 ** 31 - 1, -(2 ** 31)];
    case ScalarType.UINT32:
    case ScalarType.FIXED32:
      return [0, 1, 2 ** 31, 2 ** 32 - 1];
    default:
      return [
        0n,
        1n,
        2n ** 63n - 1n,
        ...(type === ScalarType.UINT64 || type === ScalarType.FIXED64 ? [2n ** 64n - 1n] : [-(2n ** 63n)]),
      ];
  }
}

interface Mutation {
  readonly method: DescMethod;
  readonly path: readonly DescField[];
  readonly value: Json;
}

/** Every field of every request, by every extreme. */
function mutations(method: DescMethod): Mutation[] {
  const walk = (message: DescMessage, path: readonly DescField[]): Mutation[] =>
    path.length > 4
      ? []
      : message.fields.flatMap((field) => {
          const here = [...path, field];
          const own = extremes(field).map((value) => ({ method, path: here, value }));
          const inner = innerOf(field);
          return inner === undefined ? own : [...own, ...walk(inner, here)];
        });
  return walk(method.input, []);
}

function innerOf(field: DescField): DescMessage | undefined {
  const message =
    field.fieldKind === "message" || (field.fieldKind === "list" && field.listKind === "message")
      ? field.message
      : undefined;
  return message?.typeName.startsWith("google.protobuf.") === true ? undefined : message;
}

/** A usual request with one field changed. */
function build({ method, path, value }: Mutation, leaseId: string): Message {
  const fill = (message: DescMessage, rest: readonly DescField[] | undefined): Message => {
    const made = create(message);
    const fields = reflect(message, made);
    for (const field of message.fields) {
      const next = rest?.[0] === field ? rest : undefined;
      if (next?.length === 1) {
        (made as unknown as Record<string, Json>)[field.localName] = toValue(field, value);
        continue;
      }
      const inner = innerOf(field);
      if (inner !== undefined) {
        if (field.oneof !== undefined && next === undefined) continue;
        const one = fill(inner, next?.slice(1));
        (made as unknown as Record<string, Json>)[field.localName] = field.fieldKind === "list" ? [one] : one;
      } else {
        const ordinary = usual(field, leaseId);
        if (ordinary !== undefined && !fields.isSet(field))
          (made as unknown as Record<string, Json>)[field.localName] = toValue(field, ordinary);
      }
    }
    return made;
  };
  return fill(method.input, path);
}

function toValue(field: DescField, value: Json): Json {
  return field.fieldKind === "message" ? create(field.message, value) : value;
}

function shuffled<Item>(items: readonly Item[]): Item[] {
  let state = seed;
  const next = () => {
    state = (state + 0x6d2b79f5) | 0;
    let bits = Math.imul(state ^ (state >>> 15), 1 | state);
    bits = (bits + Math.imul(bits ^ (bits >>> 7), 61 | bits)) ^ bits;
    return ((bits ^ (bits >>> 14)) >>> 0) / 2 ** 32;
  };
  return items
    .map((item) => ({ item, order: next() }))
    .toSorted((one, other) => one.order - other.order)
    .map(({ item }) => item);
}

test("no request that passes the validation fails in SQL, whatever its fields hold", async () => {
  const transport = createGrpcTransport({ baseUrl: app.url });
  const headers = { authorization: `Bearer ${app.admin}` };
  const quotas = createClient(QuotaService, transport);
  const faults = new Set<string>();
  let valid = 0;
  const all = services.flatMap((service) => service.methods.flatMap(mutations));
  for (const mutation of shuffled(all).slice(0, most)) {
    const { method, path, value } = mutation;
    const asked = { username: holder, service: 2, methodGroup: 3, points: 3, operationId: randomUUID() };
    const needsLease = path.some(({ parent }) => parent.fields.some(({ name }) => name === "lease_id"));
    const leaseId = needsLease ? ((await quotas.acquireQuota(asked, { headers })).lease?.leaseId ?? "") : "";
    const message = build(mutation, leaseId);
    const isValid = (() => {
      try {
        return validator.validate(method.input, message).kind === "valid";
      } catch {
        return false;
      }
    })();
    if (!isValid) continue;
    valid += 1;
    const error = await send(method, message, transport, headers);
    if (error === undefined) continue;
    const isFault = [Code.Internal, Code.Unknown, Code.Unavailable, Code.DataLoss].includes(error.code);
    if (isFault || error.rawMessage.includes("cannot be stored"))
      faults.add(
        `${method.parent.name}.${method.name} ${path.map(({ name }) => name).join(".")}=${String(value).slice(0, 20)}: ${error.message}`,
      );
  }
  expect([...faults]).toEqual([]);
  // A message that the client refuses proves nothing about the server.
  expect(valid).toBeGreaterThan(most / 4);
  const isDropped = ({ msg }: Json) => msg === "invalid entry dropped";
  expect(app.log.filter(isDropped)).toEqual([]);
}, 120_000);

async function send(
  method: DescMethod,
  message: Message,
  transport: ReturnType<typeof createGrpcTransport>,
  headers: Record<string, string>,
): Promise<ConnectError | undefined> {
  const { signal } = new AbortController();
  async function* one() {
    yield message;
  }
  try {
    if (method.methodKind === "unary") {
      await transport.unary(method as never, signal, 10_000, headers, message);
    } else {
      const answer = await transport.stream(method as never, signal, 10_000, headers, one() as never);
      for await (const _message of answer.message);
    }
    return undefined;
  } catch (error) {
    return ConnectError.from(error);
  }
}
