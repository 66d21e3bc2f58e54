import { fromBinary } from "@bufbuild/protobuf";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { BadRequestSchema } from "#gen/google/rpc/error_details_pb.js";
import { startTestApp, type TestApp } from "../support/app.ts";

let app: TestApp;
beforeAll(async () => {
  app = await startTestApp();
});
afterAll(() => app.stop());

/** The response of a transport to RecordActions with a JSON message: an error code, and the whole text. */
interface Outcome {
  readonly code: string;
  readonly text: string;
}

const path = "/tollgate.v1.AuditService/RecordActions";

const transports: { name: string; record: (json: string) => Promise<Outcome> }[] = [
  {
    name: "HTTP/JSON",
    record: async (json) => {
      const answer = await post("/audit/actions", "application/json", json);
      return { code: answer.status === 400 ? "invalid_argument" : String(answer.status), text: await answer.text() };
    },
  },
  {
    name: "Connect with JSON",
    record: async (json) => {
      const answer = await post(path, "application/json", json);
      const text = await answer.text();
      return { code: (JSON.parse(text) as { code?: string }).code ?? "ok", text };
    },
  },
  {
    name: "gRPC-Web with JSON",
    record: async (json) => {
      const message = Buffer.from(json);
      const head = Buffer.alloc(5);
      head.writeUInt32BE(message.length, 1);
      const answer = await post(path, "application/grpc-web+json", Buffer.concat([head, message]));
      const text = `${await answer.text()} grpc-status:${answer.headers.get("grpc-status")} ${answer.headers.get("grpc-message")}`;
      return { code: /grpc-status: ?3/.test(text) ? "invalid_argument" : "ok", text: decodeURIComponent(text) };
    },
  },
];

function post(at: string, contentType: string, body: string | Uint8Array<ArrayBuffer>): Promise<Response> {
  const headers = { "content-type": contentType, authorization: `Bearer ${app.admin}` };
  return fetch(`${app.url}${at}`, { method: "POST", headers, body });
}

const action = (fields: string, operation = "run_plan") => `{"actions":[{
  "username":"admin","tracecode":"7f0c1c9c-2b4e-4d0e-9a3a-0c8f6b1d2e3f","service":"ROUTING","operation":"${operation}","method_group":"NOTRACE",
  "time":"${new Date().toISOString()}"${fields === "" ? "" : `,${fields}`}}]}`;

describe.each(transports)("$name", ({ name, record }) => {
  test.each([
    { field: "time", sent: action("").replace(/"time":"[^"]*"/, '"time":"2026-09-31T00:00:00Z"') },
    { field: "time", sent: action("").replace(/"time":"[^"]*"/, '"time":"2026-11-25T24:00:00Z"') },
    { field: "duration", sent: action('"duration":"5s30m"') },
    { field: "duration", sent: action('"duration":"90s ago"') },
    { field: "duration", sent: action('"duration":"1sjunk"') },
    { field: "point_keys[0]", sent: action('"point_keys":["0x10"]') },
    { field: "point_keys[1]", sent: action('"point_keys":["1"," 1"]') },
    { field: "point_keys[0]", sent: action('"point_keys":["+3"]') },
    { field: "points", sent: action('"points":"0x10"') },
    { field: "points", sent: action('"points":1,"points":2') },
    // JSON.parse rounds these to another number or to Infinity.
    { field: "point_keys[0]", sent: action('"point_keys":[9007199254740993]') },
    { field: "point_keys[0]", sent: action('"point_keys":[18446744073709551616]') },
    { field: "point_keys[0]", sent: action('"point_keys":["18446744073709551616"]') },
    { field: "point_keys[0]", sent: action('"point_keys":[1e400]') },
    { field: "points", sent: action('"points":1e400') },
    { field: "point_keys[0]", sent: action('"point_keys":[9007199254740991.4]') },
    { field: "point_keys[1]", sent: action('"point_keys":[1.5e1,1.00000000000000001e0]') },
    { field: "point_keys[0]", sent: action('"point_keys":["9007199254740991.4"]') },
    { field: "point_keys[0]", sent: action('"point_keys":["1.00000000000000001e0"]') },
    { field: "points", sent: action('"points":7.00000000000000001') },
    { field: "points", sent: action('"points":"7.00000000000000001"') },
    { field: "points", sent: action('"points":1e-400') },
    { field: "service", sent: action("").replace('"ROUTING"', "1.00000000000000001") },
    { field: "points", sent: action('"points":4294967296') },
    { field: "points", sent: action('"points":-1') },
    { field: "unknown", sent: action('"unknown":1') },
    { field: "server", sent: action('"server":5') },
  ])("refuses $sent and names $field", async ({ field, sent }) => {
    const { code, text } = await record(sent);
    expect(code).toBe("invalid_argument");
    expect(text).toContain(`actions[0].${field}`);
  });

  test("reads numbers and durations in every permitted form", async () => {
    const forms = '"points":"1e1","point_keys":["1e2","1.0",1.5e1,2.0],"duration":"PT1M30.5S","outcome":"SUCCESS"';
    const answer = await record(action(forms, name));
    expect(answer.text).not.toContain("actions[0]");
    expect(answer.code).toMatch(/^(ok|200)$/);
    const { rows } = await app.database.raw("select duration_ms, points from audit_action where operation = ?", [name]);
    expect(rows).toEqual([{ duration_ms: 90_500, points: 10 }]);
  });
});

test("Connect names the fields in google.rpc.BadRequest", async () => {
  const answer = await post(path, "application/json", action('"points":"0x10","duration":"5s30m"'));
  const { details } = (await answer.json()) as { details: { type: string; value: string }[] };
  const value = details.find(({ type }) => type === "google.rpc.BadRequest")?.value ?? "";
  const { fieldViolations } = fromBinary(BadRequestSchema, Buffer.from(value, "base64"));
  expect(fieldViolations.map(({ field }) => field)).toEqual(["actions[0].points", "actions[0].duration"]);
});
