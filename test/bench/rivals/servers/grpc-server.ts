/** The bare decision behind our gRPC server. */
import { createServer } from "node:http2";
import { create } from "@bufbuild/protobuf";
import { createContextValues } from "@connectrpc/connect";
import { AcquireQuotaResponseSchema, QuotaService, SettleLeaseResponseSchema } from "#gen/tollgate/v1/lease_pb.js";
import { createGrpcServer } from "../../../../src/grpc/server.ts";
import { createDecision } from "../decision.ts";

const { acquire, settle } = createDecision(process.env.REDIS_URL ?? "");
const serve = createGrpcServer({
  services: [
    {
      service: QuotaService,
      implementation: {
        acquireQuota: async (request: Parameters<typeof acquire>[0]) =>
          create(AcquireQuotaResponseSchema, await acquire(request)),
        settleLease: async (request: Parameters<typeof settle>[0]) =>
          create(SettleLeaseResponseSchema, await settle(request)),
      } as never,
    },
  ],
  maxBodyBytes: () => 1_048_576,
  bodyTimeoutMs: 30_000,
  receive: () => ({ values: createContextValues(), headers: {} }),
});
const server = createServer();
server.on("stream", (stream, headers) => serve(stream, headers) || stream.close());
server.listen(Number(process.env.PORT), "127.0.0.1", () => console.log("ready"));
