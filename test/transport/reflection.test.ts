import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { create, createFileRegistry, fromBinary, getOption, type MessageInitShape } from "@bufbuild/protobuf";
import { FileDescriptorProtoSchema } from "@bufbuild/protobuf/wkt";
import { Code, createClient, type HandlerContext } from "@connectrpc/connect";
import { connectNodeAdapter, createGrpcTransport } from "@connectrpc/connect-node";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { http } from "#gen/google/api/annotations_pb.js";
import { Health } from "#gen/grpc/health/v1/health_pb.js";
import { ServerReflection, ServerReflectionRequestSchema } from "#gen/grpc/reflection/v1/reflection_pb.js";
import { ServerReflection as ServerReflectionAlpha } from "#gen/grpc/reflection/v1alpha/reflection_pb.js";
import { SystemService } from "#gen/tollgate/v1/system_pb.js";
import { createHealth } from "../../src/transport/health.ts";
import type { ListenerOptions } from "../../src/transport/listener.ts";
import { createReflection } from "../../src/transport/reflection.ts";
import { openListener, stopAll } from "../support/listener.ts";

const buf = fileURLToPath(new URL("../../node_modules/.bin/buf", import.meta.url));
let url: string;

beforeAll(async () => {
  const reflection = createReflection([Health, SystemService, ServerReflection]);
  const onRequest = connectNodeAdapter({
    routes(router) {
      router.service(Health, createHealth([]).implementation);
      router.service(SystemService, { version: () => ({ major: 4, minor: 2, build: "7" }) });
      router.service(ServerReflection, reflection);
      router.service(ServerReflectionAlpha, reflection);
    },
  }) as ListenerOptions["onRequest"];
  const { port } = await openListener({ onRequest });
  url = `http://127.0.0.1:${port}`;
});
afterAll(stopAll);

type Question = MessageInitShape<typeof ServerReflectionRequestSchema>["messageRequest"];

describe.each([
  ["v1", "grpc-v1", ServerReflection],
  ["v1alpha", "grpc-v1alpha", ServerReflectionAlpha],
])("reflection %s", (_version, reflectProtocol, service) => {
  async function curl(...options: string[]): Promise<string> {
    const protocol = ["--protocol", "grpc", "--http2-prior-knowledge", "--reflect-protocol", reflectProtocol];
    return (await promisify(execFile)(buf, ["curl", ...protocol, ...options])).stdout;
  }

  /** Sends one request on its own stream. */
  async function ask(messageRequest: Question) {
    const client = createClient(service as typeof ServerReflection, createGrpcTransport({ baseUrl: url }));
    async function* questions() {
      yield { host: "example", messageRequest: messageRequest ?? { case: undefined } };
    }
    for await (const answer of client.serverReflectionInfo(questions())) {
      expect(answer.originalRequest).toMatchObject({ messageRequest: messageRequest ?? { case: undefined } });
      expect(answer.validHost).toBe("example");
      return answer.messageResponse;
    }
    throw new Error("no answer");
  }

  async function filesFor(question: Question) {
    const answer = await ask(question);
    if (answer.case !== "fileDescriptorResponse") throw new Error(`no files but ${answer.case}`);
    return answer.value.fileDescriptorProto.map((bytes) => fromBinary(FileDescriptorProtoSchema, bytes));
  }

  test("lets buf curl list the methods", async () => {
    const methods = (await curl("--list-methods", url)).trim().split("\n");
    expect(methods).toContain("grpc.health.v1.Health/Check");
    expect(methods).toContain("tollgate.v1.SystemService/Version");
  });

  test("lets buf curl call methods without a schema", async () => {
    expect(JSON.parse(await curl(`${url}/grpc.health.v1.Health/Check`))).toEqual({ status: "SERVING" });
    const version = JSON.parse(await curl(`${url}/tollgate.v1.SystemService/Version`));
    expect(version).toEqual({ major: 4, minor: 2, build: "7" });
  });

  test("answers many requests on one stream, in order", async () => {
    const client = createClient(service as typeof ServerReflection, createGrpcTransport({ baseUrl: url }));
    const names = ["tollgate/v1/system.proto", "tollgate/v1/none.proto", "google/protobuf/descriptor.proto"];
    async function* questions() {
      for (const value of names) yield { messageRequest: { case: "fileByFilename" as const, value } };
    }
    const cases: unknown[] = [];
    for await (const { messageResponse } of client.serverReflectionInfo(questions())) cases.push(messageResponse.case);
    expect(cases).toEqual(["fileDescriptorResponse", "errorResponse", "fileDescriptorResponse"]);
  });

  test("sends a file's imports once on a stream", async () => {
    const client = createClient(service as typeof ServerReflection, createGrpcTransport({ baseUrl: url }));
    async function* questions() {
      for (let asked = 0; asked < 2; asked += 1) {
        yield { messageRequest: { case: "fileByFilename" as const, value: "tollgate/v1/system.proto" } };
      }
    }
    const files: number[] = [];
    for await (const { messageResponse } of client.serverReflectionInfo(questions())) {
      if (messageResponse.case === "fileDescriptorResponse")
        files.push(messageResponse.value.fileDescriptorProto.length);
    }
    expect(files[0]).toBeGreaterThan(1);
    expect(files[1]).toBe(1);
  });

  test("limits the number of requests on a stream", async () => {
    const client = createClient(service as typeof ServerReflection, createGrpcTransport({ baseUrl: url }));
    async function* questions() {
      for (;;) yield { messageRequest: { case: "listServices" as const, value: "" } };
    }
    let answered = 0;
    const all = async () => {
      for await (const _answer of client.serverReflectionInfo(questions())) answered += 1;
    };
    await expect(all()).rejects.toMatchObject({ code: Code.ResourceExhausted });
    expect(answered).toBe(1_000);
  });

  test("lists the services", async () => {
    const names = [Health, SystemService, ServerReflection].map(({ typeName }) => ({ name: typeName }));
    expect(await ask({ case: "listServices", value: "" })).toMatchObject({ value: { service: names } });
  });

  test("returns a file with all its imports and custom options", async () => {
    const files = await filesFor({ case: "fileByFilename", value: "tollgate/v1/system.proto" });
    const [system] = files;
    if (system?.name !== "tollgate/v1/system.proto") throw new Error(`another file comes first: ${system?.name}`);
    expect(files.map(({ name }) => name)).toContain("buf/validate/validate.proto");
    // Fails when an import is missing.
    const registry = createFileRegistry(system, (name) => files.find((file) => file.name === name));
    const method = registry.getService("tollgate.v1.SystemService")?.method["version"];
    expect(method && getOption(method, http).pattern).toEqual({ case: "get", value: "/admin/system/version" });
  });

  test.each([
    ["a service", "tollgate.v1.SystemService", "tollgate/v1/system.proto"],
    ["a method", "tollgate.v1.SystemService.Version", "tollgate/v1/system.proto"],
    ["a message", "tollgate.v1.VersionResponse", "tollgate/v1/system.proto"],
    ["a field", "tollgate.v1.VersionResponse.major", "tollgate/v1/system.proto"],
    ["a oneof", "google.api.HttpRule.pattern", "google/api/http.proto"],
    ["a nested enum", "google.protobuf.FieldDescriptorProto.Type", "google/protobuf/descriptor.proto"],
    ["a nested enum's value", "google.protobuf.FieldDescriptorProto.TYPE_INT64", "google/protobuf/descriptor.proto"],
    ["an extension", "google.api.http", "google/api/annotations.proto"],
  ])("finds the file of %s", async (_kind, symbol, name) => {
    expect((await filesFor({ case: "fileContainingSymbol", value: symbol }))[0]?.name).toBe(name);
  });

  test("finds extensions by number", async () => {
    const containingType = "google.protobuf.MethodOptions";
    const value = { containingType, extensionNumber: http.number };
    const [file] = await filesFor({ case: "fileContainingExtension", value });
    expect(file?.name).toBe("google/api/annotations.proto");
    const numbers = await ask({ case: "allExtensionNumbersOfType", value: containingType });
    expect(numbers).toMatchObject({
      case: "allExtensionNumbersResponse",
      value: { baseTypeName: containingType, extensionNumber: expect.arrayContaining([http.number]) },
    });
  });

  test.each<[string, Question]>([
    ["file", { case: "fileByFilename", value: "tollgate/v1/none.proto" }],
    ["symbol", { case: "fileContainingSymbol", value: "tollgate.v1.SystemService.None" }],
    ["type", { case: "allExtensionNumbersOfType", value: "tollgate.v1.None" }],
  ])("answers that the %s does not exist", async (_kind, question) => {
    expect(await ask(question)).toMatchObject({ case: "errorResponse", value: { errorCode: Code.NotFound } });
  });

  test("refuses an empty request", async () => {
    expect(await ask(undefined)).toMatchObject({ case: "errorResponse", value: { errorCode: Code.InvalidArgument } });
  });
});

test("a response with a file costs about as much as one without, because its bytes are serialized once", async () => {
  const reflection = createReflection([Health, SystemService, ServerReflection]);
  const timeOf = async (messageRequest: Question) => {
    const started = performance.now();
    for (let streams = 0; streams < 100; streams += 1) {
      async function* questions() {
        yield create(ServerReflectionRequestSchema, { messageRequest: messageRequest ?? { case: undefined } });
      }
      for await (const _answer of reflection.serverReflectionInfo(questions(), {} as HandlerContext)) break;
    }
    return performance.now() - started;
  };
  const file: Question = { case: "fileByFilename", value: "tollgate/v1/system.proto" };
  const list: Question = { case: "listServices", value: "" };
  const times = { file: [] as number[], list: [] as number[] };
  for (let round = 0; round < 6; round += 1) {
    times.file.push(await timeOf(file));
    times.list.push(await timeOf(list));
  }
  // The fastest of several: a garbage collection takes longer than a round. A response took a hundred times as long when
  // its files were serialized each time.
  expect(Math.min(...times.file)).toBeLessThan(30 * Math.min(...times.list));
});
