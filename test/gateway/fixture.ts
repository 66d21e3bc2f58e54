import { execFileSync } from "node:child_process";
import { cpSync, mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createFileRegistry, type DescService, fromBinary, type Message } from "@bufbuild/protobuf";
import { FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { type ConnectError, createContextValues, type HandlerContext, type ServiceImpl } from "@connectrpc/connect";
import { codeToHttpStatus } from "@connectrpc/connect/protocol-connect";
import { BadRequestSchema } from "#gen/google/rpc/error_details_pb.js";
import type { GatewayRequest, GatewayResponse } from "../../src/gateway/exchange.ts";
import { createGateway, type GatewayOptions } from "../../src/gateway/gateway.ts";

/** JSON whose shape a test does not declare. */
type Json = ReturnType<typeof JSON.parse>;

/** All types of the fixture. */
export const services = compile();

export function serviceOf(name: string): DescService {
  const service = services.getService(`fixture.${name}`);
  if (service === undefined) throw new Error(`the fixture has no service ${name}`);
  return service;
}

/** An implementation of the whole echo service. */
export type Implementation = Record<
  string,
  (request: Json, context: HandlerContext) => Promise<Json> | AsyncIterable<Json>
>;

const echo = async (request: Message) => request;

export function createFixtureGateway(
  name: string,
  implementation: Implementation = {},
  options: Partial<GatewayOptions> = {},
) {
  const service = serviceOf(name);
  const echoes = Object.fromEntries(service.methods.map(({ localName }) => [localName, echo]));
  const complete = { ...echoes, ...implementation } as unknown as ServiceImpl<DescService>;
  const gateway = createGateway({
    services: [{ service, implementation: complete }],
    maxBodyBytes: () => 100_000,
    bodyTimeoutMs: 30_000,
    limits: { depth: 8, items: 1000 },
    describeError: (error, { bodyField, status }) => ({
      status: status ?? codeToHttpStatus(error.code),
      headers: {},
      body: { message: error.rawMessage, fields: fieldsOf(error), body_field: bodyField ?? null },
    }),
    ...options,
  });
  return (request: GatewayRequest, response: GatewayResponse) => gateway(request, response, createContextValues());
}

function fieldsOf(error: ConnectError): string[] {
  return error
    .findDetails(BadRequestSchema)
    .flatMap(({ fieldViolations }) => fieldViolations.map(({ field }) => field));
}

export interface FixtureServer {
  readonly url: string;
  call(method: string, path: string, body?: Json, headers?: Record<string, string>): Promise<Json>;
  stop(): Promise<void>;
}

/** Starts the echo service on a real HTTP server. */
export async function startFixture(
  implementation: Implementation = {},
  options: Partial<GatewayOptions> = {},
): Promise<FixtureServer> {
  const server = createServer(createFixtureGateway("EchoService", implementation, options));
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return {
    url,
    call: async (method, path, body, headers = {}) => {
      const response = await fetch(`${url}${path}`, {
        method,
        headers: { ...(body !== undefined && { "content-type": "application/json" }), ...headers },
        ...(body !== undefined && { body: typeof body === "string" ? body : JSON.stringify(body) }),
      });
      const text = await response.text();
      const isJson = response.headers.get("content-type")?.includes("json") === true && text !== "";
      return { status: response.status, headers: response.headers, body: isJson ? JSON.parse(text) : text };
    },
    stop: () =>
      new Promise((done) => {
        server.close(() => done());
        server.closeAllConnections();
      }),
  };
}

/** Creates a page of a list. */
export const page = (texts: readonly string[], rest: { last?: string; total?: number } = {}) => ({
  $typeName: "fixture.Page",
  items: texts.map((text) => ({ $typeName: "fixture.Nested", text })),
  last: "",
  total: 0,
  ...rest,
});

/** Creates a file or a chunk of a file. */
export const file = (contentType: string, data: Uint8Array) => ({
  $typeName: "google.api.HttpBody",
  contentType,
  data,
  extensions: [],
});

function compile() {
  const folder = mkdtempSync(join(tmpdir(), "gateway-fixture-"));
  try {
    for (const name of ["google", "gateway"]) cpSync(`proto/${name}`, join(folder, name), { recursive: true });
    cpSync("test/gateway/fixture.proto", join(folder, "fixture.proto"));
    const image = execFileSync("node_modules/.bin/buf", ["build", folder, "--as-file-descriptor-set", "-o", "-"]);
    return createFileRegistry(fromBinary(FileDescriptorSetSchema, image));
  } finally {
    rmSync(folder, { recursive: true });
  }
}
