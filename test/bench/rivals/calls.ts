import { randomUUID } from "node:crypto";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { BinaryReader } from "@bufbuild/protobuf/wire";
import {
  AcquireQuotaRequestSchema,
  AcquireQuotaResponseSchema,
  SettleLeaseRequestSchema,
} from "#gen/tollgate/v1/lease_pb.js";
import { users } from "./fixture.ts";
import { type GrpcConnection, openGrpc } from "./grpc-client.ts";

/** Calls of the quota service over gRPC. Each returns the amount of work that it did. */
export interface QuotaCalls {
  /** Acquires and settles. */
  pair(caller: number): Promise<number>;
  grant(caller: number): Promise<number>;
  /** Acquires `batchSize` leases by one call. */
  batch(caller: number): Promise<number>;
  connectionOf(caller: number): GrpcConnection;
}

export const batchSize = 100;
export const quotaService = "/tollgate.v1.QuotaService";

export async function openQuotaCalls(url: string, token: string, connectionCount = 4): Promise<QuotaCalls> {
  const connections = await Promise.all(Array.from({ length: connectionCount }, () => openGrpc(url, token)));
  const connectionOf = (caller: number) => connections[caller % connections.length] as GrpcConnection;
  const call = (caller: number, method: string, message: Uint8Array) =>
    connectionOf(caller).unary(`${quotaService}/${method}`, message);
  return {
    async pair(caller) {
      const answer = fromBinary(AcquireQuotaResponseSchema, await call(caller, "AcquireQuota", acquisition()));
      const settlement = { leaseId: answer.lease?.leaseId ?? "", points: 3, outcome: 1 };
      const message = toBinary(SettleLeaseRequestSchema, create(SettleLeaseRequestSchema, settlement));
      await call(caller, "SettleLease", message);
      return 1;
    },
    async grant(caller) {
      await call(caller, "AcquireQuota", acquisition());
      return 1;
    },
    async batch(caller) {
      const grants = countGrants(await call(caller, "BatchAcquireQuota", batchMessage()));
      if (grants !== batchSize) throw new Error(`${batchSize - grants} refusals`);
      return batchSize;
    },
    connectionOf,
  };
}

const placeholder = randomUUID();
let made = 0;
/** The request of each user. The operation id is written into it. */
const acquisitions = Array.from({ length: users }, (_none, user) => {
  const request = {
    username: `user_${user}`,
    service: 1,
    methodGroup: 3,
    points: 3,
    operationId: placeholder,
    // No lease expires during the measurement.
    ttlSeconds: 3600,
  };
  return Buffer.from(toBinary(AcquireQuotaRequestSchema, create(AcquireQuotaRequestSchema, request)));
});

/** Encodes an acquire of the next user and of a new operation. */
export function acquisition(): Buffer {
  const message = Buffer.from(acquisitions[(made += 1) % users] as Buffer);
  message.write(randomUUID(), message.indexOf(placeholder), "latin1");
  return message;
}

/** Encodes a batch: field 1 of the message, repeated. */
const batchMessage = createRequests((length) => [0x0a, length]);
/** Encodes messages of a stream, each in its envelope. */
export const streamMessages = createRequests((length) => [0, 0, 0, 0, length]);

/**
 * Returns a function that encodes `batchSize` acquires of new operations, each after its prefix. It writes the ids into a
 * copy of bytes that are made once: a load that costs more than Redis would measure itself.
 */
function createRequests(prefixOf: (length: number) => number[]): () => Buffer {
  const messages = Array.from({ length: batchSize }, (_none, index) => acquisitions[index % users] as Buffer);
  const all = Buffer.concat(messages.flatMap((message) => [Buffer.from(prefixOf(message.length)), message]));
  const places: number[] = [];
  for (let at = all.indexOf(placeholder); at >= 0; at = all.indexOf(placeholder, at + 1)) places.push(at);
  return () => {
    const copy = Buffer.from(all);
    for (const at of places) copy.write(randomUUID(), at, "latin1");
    return copy;
  };
}

/** Counts the grants of a BatchAcquireQuotaResponse: field 1 of a decision, which is field 1 of the message. */
function countGrants(bytes: Uint8Array): number {
  const reader = new BinaryReader(bytes);
  let grants = 0;
  while (reader.pos < reader.len) {
    reader.tag();
    const length = reader.uint32();
    if (bytes[reader.pos] === 0x0a) grants += 1;
    reader.pos += length;
  }
  return grants;
}
