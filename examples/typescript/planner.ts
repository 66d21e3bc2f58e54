// Runs calculations at the same time, each under a lease. The quota of one of them is refused.
// Usage: PASSWORD=... node dist/planner.js URL LOGIN USERNAME
import { ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { ErrorInfoSchema } from "tollgate-client/gen/google/rpc/error_details_pb.js";
import { QuotaService } from "tollgate-client/gen/tollgate/v1/lease_pb.js";
import { AuthService } from "tollgate-client/gen/tollgate/v1/token_pb.js";
import { Method_Group, Service_Name } from "tollgate-client/gen/tollgate/v1/tracedata_pb.js";
import { createQuotaClient } from "tollgate-client/quota-client.js";
import { withQuota } from "tollgate-client/with-quota.js";

const [url = "", login = "", username = ""] = process.argv.slice(2);
const transport = createGrpcTransport({ baseUrl: url, pingIntervalMs: 10_000 });
const { token } = await createClient(AuthService, transport).createToken({
  username: login,
  password: process.env["PASSWORD"] ?? "",
});
const headers = { authorization: `Bearer ${token}` };
// The calls of concurrent calculations share batches.
const client = createQuotaClient(createClient(QuotaService, transport));

async function plan(stops: number): Promise<string> {
  const request = { username, service: Service_Name.UNIVERSAL, methodGroup: Method_Group.PLAN, points: stops };
  try {
    return await withQuota(client, request, () => calculate(stops), { headers });
  } catch (error) {
    const [info] = ConnectError.from(error).findDetails(ErrorInfoSchema);
    if (info === undefined) throw error;
    return `refused: ${info.reason}`;
  }
}

/** Stands for the calculation. It does not need all of its points. */
async function calculate(stops: number) {
  return { result: `a plan of ${stops} stops`, points: Math.floor(stops / 2) };
}

for (const answer of await Promise.all([100, 200, 1600].map(plan))) console.log(answer);
const { usages } = await client.getQuotaUsage({ username }, { headers });
console.log(`used today: ${usages[0]?.limits[1]?.used} points`);
// The transport keeps its connection for other calls.
process.exit(0);
