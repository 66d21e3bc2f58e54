import { randomUUID } from "node:crypto";
import { createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { QuotaService } from "#gen/tollgate/v1/lease_pb.js";
import { createQuotaClient } from "../../../src/client/quota-client.ts";
import { users } from "./fixture.ts";

/** Returns a function that acquires and settles through the client library. Its callers share one client. */
export function createClientPair(url: string, token: string, isCoalesced: boolean): () => Promise<number> {
  const unary = createClient(QuotaService, createGrpcTransport({ baseUrl: url }));
  const client = isCoalesced ? createQuotaClient(unary) : unary;
  const options = { headers: { authorization: `Bearer ${token}` }, timeoutMs: 10_000 };
  let calls = 0;
  return async () => {
    const username = `user_${(calls += 1) % users}`;
    const request = { username, service: 1, methodGroup: 3, points: 3, operationId: randomUUID(), ttlSeconds: 3600 };
    const { lease } = await client.acquireQuota(request, options);
    await client.settleLease({ leaseId: lease?.leaseId ?? "", points: 3, outcome: 1 }, options);
    return 1;
  };
}
