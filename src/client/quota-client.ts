import { fromBinary, type MessageInitShape } from "@bufbuild/protobuf";
import { type CallOptions, type Client, Code, ConnectError } from "@connectrpc/connect";
import { StatusSchema } from "#gen/google/rpc/status_pb.js";
import type {
  AcquireQuotaRequestSchema,
  AcquireQuotaResponse,
  QuotaService,
  Refusal,
  SettleLeaseRequestSchema,
  SettleLeaseResponse,
} from "#gen/tollgate/v1/lease_pb.js";
import { type BatchAnswer, type CoalescedCall, createCoalescer } from "./coalesce.ts";

export interface QuotaClientOptions {
  /** How long acquires and settlements wait for others while one is in flight, in milliseconds. Default: 1. */
  readonly windowMs?: number;
}

type Acquire = MessageInitShape<typeof AcquireQuotaRequestSchema>;
type Settle = MessageInitShape<typeof SettleLeaseRequestSchema>;
type Answers<Answer> = readonly BatchAnswer<Answer>[];

/** The most requests and point keys of a batch. A batch of them is less than a megabyte. */
const most = { requests: 250, pointKeys: 50_000 };

/**
 * Returns a client whose concurrent `acquireQuota` and `settleLease` calls share BatchAcquireQuota and BatchSettleLeases.
 * A call that finds no other in flight leaves at once, as a unary call. Each call keeps its deadline, its signal and the
 * error of its own request. Calls with different headers, or with `onHeader`, `onTrailer` or `contextValues`, share
 * nothing. Pass the client to `withQuota`, which renews and retries.
 */
export function createQuotaClient(
  client: Client<typeof QuotaService>,
  { windowMs = 1 }: QuotaClientOptions = {},
): Client<typeof QuotaService> {
  const acquire = createCoalescer<Acquire, AcquireQuotaResponse>({
    windowMs,
    sizeOf: () => 1 / most.requests,
    sendOne: (request, call) => client.acquireQuota(request, optionsOf(call)),
    sendBatch: (requests, call) =>
      answersOf(async (): Promise<Answers<AcquireQuotaResponse>> => {
        // Unlike calls of their own, requests of a batch would have one tracecode.
        const traced = requests.map((request) => ({ ...request, tracecode: request.tracecode ?? newTracecode(call) }));
        const { decisions } = await client.batchAcquireQuota({ requests: traced }, optionsOf(call));
        return decisions.map(({ decision }) =>
          decision.case === "granted" ? { answer: decision.value } : refusedAnswer(decision.value),
        );
      }),
  });
  const settle = createCoalescer<Settle, SettleLeaseResponse>({
    windowMs,
    sizeOf: ({ pointKeys = [] }) => 1 / most.requests + pointKeys.length / most.pointKeys,
    sendOne: (request, call) => client.settleLease(request, optionsOf(call)),
    sendBatch: (requests, call) =>
      answersOf(async (): Promise<Answers<SettleLeaseResponse>> => {
        const { results } = await client.batchSettleLeases({ requests: [...requests] }, optionsOf(call));
        return results.map(({ result }) =>
          result.case === "settled" ? { answer: result.value } : refusedAnswer(result.value),
        );
      }),
  });
  return {
    ...client,
    acquireQuota: (request, options = {}) =>
      isCoalesced(options) ? acquire(request, callOf(options)) : client.acquireQuota(request, options),
    settleLease: (request, options = {}) =>
      isCoalesced(options) ? settle(request, callOf(options)) : client.settleLease(request, options),
  };
}

/** Errors of a server that cannot take the batch as a whole: an older one, or one with a small MAX_BODY_BYTES. */
const refusesBatches: readonly Code[] = [Code.Unimplemented, Code.InvalidArgument, Code.ResourceExhausted];

/** Returns no answers when each request must be sent alone. */
async function answersOf<Answer>(sending: () => Promise<Answers<Answer>>): Promise<Answers<Answer>> {
  try {
    return await sending();
  } catch (error) {
    if (refusesBatches.includes(ConnectError.from(error).code)) return [];
    throw error;
  }
}

function refusedAnswer(refusal: Refusal | undefined): BatchAnswer<never> {
  // An older server sends a refusal without the error of the unary call.
  if (refusal === undefined || refusal.status.length === 0) return "alone";
  const { code, message, details } = fromBinary(StatusSchema, refusal.status);
  const error = new ConnectError(message, code);
  for (const { typeUrl, value } of details)
    error.details.push({ type: typeUrl.slice(typeUrl.lastIndexOf("/") + 1), value });
  return { error };
}

function newTracecode({ headers }: CoalescedCall): string {
  return new Headers(headers).get("tracecode") ?? crypto.randomUUID();
}

function isCoalesced({ onHeader, onTrailer, contextValues }: CallOptions): boolean {
  return onHeader === undefined && onTrailer === undefined && contextValues === undefined;
}

function callOf({ headers, signal, timeoutMs }: CallOptions): CoalescedCall {
  return { headers, signal, timeoutMs };
}

function optionsOf({ headers, signal, timeoutMs }: CoalescedCall): CallOptions {
  return {
    ...(headers !== undefined && { headers }),
    ...(signal !== undefined && { signal }),
    ...(timeoutMs !== undefined && { timeoutMs }),
  };
}
