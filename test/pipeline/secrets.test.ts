import { create, type DescField, type DescMessage, type DescMethod, getOption } from "@bufbuild/protobuf";
import { type ReflectMessage, reflect } from "@bufbuild/protobuf/reflect";
import { ConnectError, createClient } from "@connectrpc/connect";
import { createConnectTransport, createGrpcTransport, createGrpcWebTransport } from "@connectrpc/connect-node";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { schema } from "#gen/gateway/v1/annotations_pb.js";
import { AccountService } from "#gen/tollgate/v1/account_pb.js";
import { AuditService } from "#gen/tollgate/v1/audit_pb.js";
import { CompanyService } from "#gen/tollgate/v1/company_pb.js";
import { DataService } from "#gen/tollgate/v1/data_pb.js";
import { QuotaService } from "#gen/tollgate/v1/lease_pb.js";
import { QuotaAdminService } from "#gen/tollgate/v1/quota_pb.js";
import { StatisticsService } from "#gen/tollgate/v1/statistics_pb.js";
import { SystemService } from "#gen/tollgate/v1/system_pb.js";
import { AuthService } from "#gen/tollgate/v1/token_pb.js";
import { UserService } from "#gen/tollgate/v1/user_pb.js";
import { bindingsOf } from "../../src/gateway/binding.ts";
import { startTestApp, type TestApp } from "../support/app.ts";

let app: TestApp;
beforeAll(async () => {
  app = await startTestApp({ LOGIN_FAILURES: "1000000" });
});
afterAll(() => app.stop());

const services = [
  AccountService,
  AuditService,
  AuthService,
  CompanyService,
  DataService,
  QuotaAdminService,
  QuotaService,
  StatisticsService,
  SystemService,
  UserService,
];
const methods: DescMethod[] = services.flatMap((service) => service.methods);

/** Values that appear nowhere else; the first is what a password of digits becomes without its quotes. */
const canaries = ["7418529630741852", "canary_hunter2"] as const;
const [digits, word] = canaries;

/** Values that a caller may write by mistake, in valid or invalid JSON; more of them for secrets. */
function mistakes(field: DescField): string[] {
  const key = JSON.stringify(field.name);
  const ordinary = [`{${key}: ${digits}}`, `{${key}: ${word}}`];
  if (!getOption(field, schema).secret) return ordinary;
  return [
    ...ordinary,
    `{${key}: [${digits}]}`,
    `{${key}: {"a": ${digits}}}`,
    `{${key}: '${word}'}`,
    `{${key}: "${word}}`,
    `{${key}: "${word}" "${word}"}`,
    `{${key}: true${word}}`,
  ];
}

/** Values of another type, which no field of numbers or messages reads. */
function wrongTexts({ name, fieldKind, scalar, message }: DescField): string[] {
  const isText = fieldKind === "scalar" && scalar === 9;
  const isWrappedText = message?.typeName === "google.protobuf.StringValue";
  return isText || isWrappedText ? [] : [`{${JSON.stringify(name)}: "${word}"}`];
}

/** The mistakes about a field, and about the fields of the message that it holds. */
function mistakesIn(field: DescField): string[] {
  const own = [...mistakes(field), ...wrongTexts(field)];
  if (field.fieldKind !== "message" || field.message.typeName.startsWith("google.")) return own;
  const inner = field.message.fields.flatMap((one) => [...mistakes(one), ...wrongTexts(one)]);
  return [...own, ...inner.map((json) => `{${JSON.stringify(field.name)}: ${json}}`)];
}

function found(texts: readonly string[]): string[] {
  return texts.filter((text) => canaries.some((canary) => text.includes(canary)));
}

function logLines(): string[] {
  return app.log.map((line) => JSON.stringify(line));
}

test("every password and token is marked as a secret", () => {
  const unmarked = [...messagesOf(methods)]
    .flatMap(({ fields }) => fields)
    .filter(({ name }) => /password|^token$/.test(name))
    .filter((field) => !getOption(field, schema).secret)
    .map(({ parent, name }) => `${parent.typeName}.${name}`);
  expect(unmarked).toEqual([]);
});

describe("a mistyped value is in no answer and in no log line", () => {
  test("Connect with JSON: every field of every RPC", async () => {
    const answers: string[] = [];
    const accepted: string[] = [];
    for (const method of methods) {
      const isUnary = method.methodKind === "unary";
      for (const field of method.input.fields) {
        for (const json of mistakesIn(field)) {
          const answer = await fetch(`${app.url}/${method.parent.typeName}/${method.name}`, {
            method: "POST",
            headers: {
              "content-type": isUnary ? "application/json" : "application/connect+json",
              authorization: `Bearer ${app.admin}`,
            },
            body: isUnary ? json : envelope(json),
          });
          const text = await answer.text();
          answers.push(text);
          if (isUnary && answer.status < 400) accepted.push(`${method.name} ${json}`);
        }
      }
    }
    expect(accepted).toEqual([]);
    expect(answers.length).toBeGreaterThan(300);
    expect(found(answers)).toEqual([]);
    expect(found(logLines())).toEqual([]);
  });

  test("HTTP/JSON: every field of every operation with a body, and every parameter of the query", async () => {
    const answers: string[] = [];
    for (const { method, httpMethod, pattern, body } of services.flatMap((service) => bindingsOf(service))) {
      const path = pattern.replaceAll(/\{[^}]*\}/g, "some");
      const message = body === "*" ? method.input : body?.message;
      // A file is not JSON.
      if (message?.typeName === "google.api.HttpBody") continue;
      for (const field of message?.fields ?? []) {
        for (const json of mistakesIn(field)) {
          const answer = await app.http(httpMethod, path, { token: app.admin, body: json });
          answers.push(JSON.stringify(answer.body));
        }
      }
      for (const field of body === "*" ? [] : method.input.fields.filter((one) => wrongTexts(one).length > 0)) {
        const answer = await app.http(httpMethod, `${path}?${field.name}=${word}`, { token: app.admin });
        answers.push(JSON.stringify(answer.body));
      }
    }
    expect(answers.length).toBeGreaterThan(100);
    expect(found(answers)).toEqual([]);
    expect(found(logLines())).toEqual([]);
  });
});

describe("a secret that breaks a rule, or is wrong, is in no answer and in no log line", () => {
  const transports = [createGrpcTransport, createGrpcWebTransport, createConnectTransport].map(
    (create, index) => () => create({ baseUrl: app.url, httpVersion: index === 1 ? "1.1" : "2" }),
  );
  const secrets = [word, `${word}${"x".repeat(5000)}`, `${word}\0`];

  test.each(transports)("transport %#", async (transport) => {
    const headers = { authorization: `Bearer ${app.admin}` };
    const errors: string[] = [];
    for (const method of methods.filter(({ methodKind }) => methodKind === "unary")) {
      for (const path of secretPaths(method.input)) {
        for (const secret of secrets) {
          const request = create(method.input);
          setSecret(reflect(method.input, request), path, secret);
          const client = createClient(method.parent, transport()) as unknown as Record<
            string,
            (request: object, options: object) => Promise<unknown>
          >;
          const error = await client[method.localName]?.(request, { headers }).then(
            () => new ConnectError("no error"),
            (failure: unknown) => ConnectError.from(failure),
          );
          const details = error?.details.map((detail) =>
            "desc" in detail ? "" : Buffer.from(detail.value).toString(),
          );
          errors.push([error?.rawMessage, ...(details ?? [])].join("\n"));
        }
      }
    }
    expect(errors.length).toBeGreaterThanOrEqual(12);
    expect(found(errors)).toEqual([]);
    expect(found(logLines())).toEqual([]);
  });
});

/** The messages of the methods, and all within them. */
function messagesOf(of: readonly DescMethod[]): ReadonlySet<DescMessage> {
  const found = new Set<DescMessage>();
  const collect = (message: DescMessage) => {
    if (found.has(message)) return;
    found.add(message);
    for (const field of message.fields) if (field.message !== undefined) collect(field.message);
  };
  for (const { input, output } of of) [input, output].forEach(collect);
  return found;
}

/** The secrets of a message, and those of the messages that it holds. */
function secretPaths(message: DescMessage): DescField[][] {
  return message.fields.flatMap((field): DescField[][] => {
    if (getOption(field, schema).secret) return [[field]];
    const isOurs = field.fieldKind === "message" && !field.message.typeName.startsWith("google.");
    return isOurs ? field.message.fields.filter((one) => getOption(one, schema).secret).map((one) => [field, one]) : [];
  });
}

function setSecret(message: ReflectMessage, [field, inner]: readonly DescField[], secret: string): void {
  const username = message.fields.find(({ name }) => name === "username");
  if (username !== undefined) message.set(username, "unknown_user");
  if (field === undefined) return;
  if (inner === undefined) return message.set(field, field.fieldKind === "message" ? wrapped(field, secret) : secret);
  if (field.fieldKind !== "message") return;
  const within = reflect(field.message, create(field.message));
  setSecret(within, [inner], secret);
  message.set(field, within);
}

function wrapped(field: DescField, value: string) {
  if (field.message === undefined) throw new Error(`${field.name} is no message`);
  const message = reflect(field.message, create(field.message));
  const [inner] = field.message.fields;
  if (inner !== undefined) message.set(inner, value);
  return message;
}

/** One message of a Connect stream. */
function envelope(json: string): Buffer {
  const data = Buffer.from(json);
  const head = Buffer.alloc(5);
  head.writeUInt32BE(data.length, 1);
  return Buffer.concat([head, data]);
}
