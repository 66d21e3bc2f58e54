/** The bare decision behind Connect's own adapter for Node. */
import { createServer } from "node:http2";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import { QuotaService } from "#gen/tollgate/v1/lease_pb.js";
import { createDecision } from "../decision.ts";

const { acquire, settle } = createDecision(process.env.REDIS_URL ?? "");
const adapter = connectNodeAdapter({
  routes(router) {
    router.rpc(QuotaService.method.acquireQuota, acquire);
    router.rpc(QuotaService.method.settleLease, settle);
  },
});
createServer(adapter).listen(Number(process.env.PORT), "127.0.0.1", () => console.log("ready"));
