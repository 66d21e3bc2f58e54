/**
 * Prints by how many bytes the old generation grows with each gRPC call, the median of three rounds: what a call leaves to a full garbage collection.
 */
import { create, toBinary } from "@bufbuild/protobuf";
import { createContextValues } from "@connectrpc/connect";
import { AcquireQuotaRequestSchema, QuotaService } from "#gen/tollgate/v1/lease_pb.js";
import { createGrpcServer } from "../../src/grpc/server.ts";
import { openGrpc } from "../bench/rivals/grpc-client.ts";
import { oldBytes } from "./garbage-left.ts";
import { openListener } from "./listener.ts";

const calls = 2000;
const serve = createGrpcServer({
  services: [{ service: QuotaService, implementation: { acquireQuota: async () => ({}) } as never }],
  maxBodyBytes: () => 1000,
  bodyTimeoutMs: 10_000,
  receive: () => ({ values: createContextValues(), headers: {} }),
});
const { port } = await openListener({ onStream: serve });
const { unary } = await openGrpc(`http://127.0.0.1:${port}`, "");
const request = toBinary(AcquireQuotaRequestSchema, create(AcquireQuotaRequestSchema, { username: "anna" }));

await send();
const growths: number[] = [];
for (let round = 0; round < 3; round += 1) {
  const before = oldBytes();
  await send();
  growths.push((oldBytes() - before) / calls);
}
console.log(Math.round(growths.toSorted((left, right) => left - right)[1] ?? Number.NaN));
process.exit();

/** Sends the calls, ten at a time. */
async function send(): Promise<void> {
  const call = () => unary("/tollgate.v1.QuotaService/AcquireQuota", request);
  for (let sent = 0; sent < calls; sent += 10) await Promise.all(Array.from({ length: 10 }, call));
}
