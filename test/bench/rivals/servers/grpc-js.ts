/** The bare decision behind @grpc/grpc-js. */
import { createDecision } from "../decision.ts";
import { serveByGrpcJs } from "../grpc-js-service.ts";

serveByGrpcJs(createDecision(process.env.REDIS_URL ?? ""));
