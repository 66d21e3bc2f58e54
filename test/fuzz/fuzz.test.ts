import { readFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { type DescMethod, hasOption } from "@bufbuild/protobuf";
import { Code } from "@connectrpc/connect";
import { Ajv2020 } from "ajv/dist/2020.js";
import addFormats from "ajv-formats";
import { afterAll, beforeAll, expect, test } from "vitest";
import { parse } from "yaml";
import { http } from "#gen/google/api/annotations_pb.js";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { type ServerProcess, startProcess } from "../support/process.ts";
import { everyService } from "../support/services.ts";
import { type Caller, type Got, makeRequest, openCaller, type Sent, transports } from "./transports.ts";
import { createDice } from "./values.ts";

/** Of all transports together; `npm run test:fuzz` makes 100,000. A fault names its seed, from which it can be repeated. */
const calls = Number(process.env["FUZZ_CALLS"] ?? 600);
const firstSeed = Number(process.env["FUZZ_SEED"] ?? 1);
const lanes = 8;
const heapMegabytes = 256;
const growthMegabytes = 160;
const faultsOfGrpc: ReadonlySet<number> = new Set([Code.Internal, Code.Unknown, Code.DataLoss]);

let database: TestDatabase;
let server: ServerProcess;
let methods: DescMethod[];
/** Those that the gateway has. */
let bound: DescMethod[];
let token: string;

beforeAll(async () => {
  database = await createTestDatabase();
  const command = [process.execPath, `--max-old-space-size=${heapMegabytes}`, "--import", "tsx", "src/main.ts"];
  server = await startProcess(
    {
      DATABASE_URL: database.url,
      TOKEN_KEYS: "J8hsgQ2mZk0vYt4xLr7pW3nBcD5fG6hK",
      ADMIN_PASSWORD: "first administrator",
      LOG_LEVEL: "error",
    },
    command,
  );
  methods = (await everyService()).flatMap((service) => service.methods);
  bound = methods.filter((method) => hasOption(method, http));
  token = await login();
});
afterAll(async () => {
  await server.end();
  await database.drop();
});

async function login(): Promise<string> {
  const answer = await fetch(`${server.url}/admin/token/generation`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ username: "admin", password: "first administrator" }),
  });
  return ((await answer.json()) as { token: string }).token;
}

test(`${calls} calls find no fault`, { timeout: 60_000 + calls * 100 }, async () => {
  const counts: Record<string, Record<string, number>> = {};
  const faults: string[] = [];
  const warm = Math.min(calls, 300);
  let made = 0;
  let firstMegabytes = 0;
  const callers = Array.from({ length: lanes }, () => openCaller(server.url));
  await Promise.all(callers.map(lane));
  for (const caller of callers) caller.close();
  const megabytes = await residentMegabytes();
  console.log(JSON.stringify({ counts, firstMegabytes, megabytes }, null, 1));
  expect(faults.slice(0, 20)).toEqual([]);
  expect(megabytes, "resident memory").toBeLessThan(firstMegabytes + growthMegabytes);
  for (const transport of transports) {
    const { ok = 0, refused = 0 } = counts[transport] ?? {};
    expect(ok, `answers by ${transport}`).toBeGreaterThan(0);
    expect(refused, `refusals by ${transport}`).toBeGreaterThan(0);
  }

  async function lane(caller: Caller): Promise<void> {
    while (made < calls && faults.length < 200) {
      const number = made;
      made += 1;
      if (number === warm - 1) firstMegabytes = await residentMegabytes();
      await call(caller, firstSeed + number, number);
    }
  }

  async function call(caller: Caller, seed: number, number: number): Promise<void> {
    const transport = transports[number % transports.length] as (typeof transports)[number];
    const candidates = transport === "gateway" ? bound : methods;
    const method = candidates[Math.floor(number / transports.length) % candidates.length] as DescMethod;
    const sent = makeRequest(createDice(seed), transport, method);
    const outcome = await caller.send(sent, token).then(
      (got) => judge(sent, got),
      (error: unknown) => ({ kind: "hung", fault: String(error) }),
    );
    const counted = (counts[transport] ??= {});
    counted[outcome.kind] = (counted[outcome.kind] ?? 0) + 1;
    if (outcome.fault === undefined) return;
    const start = JSON.stringify(sent.body.subarray(0, 200).toString("latin1"));
    faults.push(
      `seed ${seed}, ${transport}, ${method.name}: ${outcome.fault}; ${JSON.stringify(sent.headers)} ${start}`,
    );
  }
});

interface Outcome {
  readonly kind: "ok" | "refused" | "unavailable" | "reset" | "hung" | "fault";
  readonly fault?: string | undefined;
}

function judge(sent: Sent, got: Got): Outcome {
  if (got.status === 0) {
    // The server ends a stream or a connection that breaks the protocol, and says so by the code.
    return { kind: "reset", fault: got.rstCode === 2 ? "reset with INTERNAL_ERROR" : undefined };
  }
  const isGrpc = String(got.headers["content-type"] ?? "").startsWith("application/grpc");
  return isGrpc ? judgeGrpc(got) : judgeHttp(sent, got);
}

function judgeGrpc({ headers, trailers, body }: Got): Outcome {
  const inBody = /grpc-status: ?(\d+)/.exec(body.toString("latin1"))?.[1];
  const status = Number(trailers["grpc-status"] ?? headers["grpc-status"] ?? inBody ?? Number.NaN);
  if (status === 0) return { kind: "ok" };
  if (status === Code.Unavailable) return { kind: "unavailable" };
  const isFault = Number.isNaN(status) || faultsOfGrpc.has(status);
  const message = String(trailers["grpc-message"] ?? headers["grpc-message"] ?? "");
  return isFault ? { kind: "fault", fault: `status ${status} ${message}` } : { kind: "refused" };
}

function judgeHttp(sent: Sent, { status, headers, body }: Got): Outcome {
  const text = body.toString();
  if (status === 503) return { kind: "unavailable" };
  // Connect says UNIMPLEMENTED by 501: of an encoding that it does not know.
  const isFault = status >= 500 && !(status === 501 && sent.transport.startsWith("Connect"));
  if (isFault) return { kind: "fault", fault: `${status} ${text.slice(0, 300)}` };
  const inStream = /"error":\{"code":"(internal|unknown|data_loss)"/.exec(text)?.[0];
  if (inStream !== undefined) return { kind: "fault", fault: `${status} ${text.slice(0, 300)}` };
  const fault =
    sent.template === undefined ? undefined : schemaFault(sent, status, String(headers["content-type"]), text);
  return { kind: status < 400 ? "ok" : "refused", fault };
}

const document = parse(readFileSync("gen/openapi.yaml", "utf8"));
const ajv = new Ajv2020({ strict: false, validateFormats: true });
(addFormats as unknown as (one: Ajv2020) => void)(ajv);
ajv.addSchema(document, "openapi");

/** Why an answer of the gateway is not what the OpenAPI document says; undefined where it is. */
function schemaFault({ template, headers }: Sent, status: number, type: string, text: string): string | undefined {
  if (!type.startsWith("application/json") || text === "") return undefined;
  const verb = String(headers[":method"]).toLowerCase();
  const responses = document.paths[template ?? ""]?.[verb]?.responses;
  // A path whose variables are more than one segment, or none, is no operation: its 404 is an error like others.
  const key = responses?.[status] === undefined ? "default" : String(status);
  const schema = responses?.[key]?.content?.["application/json"]?.schema;
  if (schema === undefined) return `no schema of ${verb} ${template} ${status}`;
  const pointer = ["paths", template ?? "", verb, "responses", key, "content", "application/json", "schema"];
  const escaped = pointer.map((part) => encodeURIComponent(part.replaceAll("~", "~0").replaceAll("/", "~1")));
  const answer: unknown = JSON.parse(text);
  const validate = ajv.getSchema(`openapi#/${escaped.join("/")}`);
  if (validate === undefined) return "the schema cannot be read";
  if (!validate(answer)) {
    // A path that is no operation's has no resource that could be missing.
    return `${status} ${text.slice(0, 200)} ${ajv.errorsText(validate.errors)}`;
  }
  const { validations, reason } = answer as { validations?: { field: string }[]; reason?: string };
  const isNamed = validations?.every(({ field }) => typeof field === "string") ?? false;
  return status === 400 && reason === "INVALID_REQUEST" && !isNamed ? `a 400 names no field: ${text}` : undefined;
}

async function residentMegabytes(): Promise<number> {
  const status = await readFile(`/proc/${server.process.pid}/status`, "utf8");
  return Math.round(Number(/VmRSS:\s+(\d+)/.exec(status)?.[1]) / 1024);
}
