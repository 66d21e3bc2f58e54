import {
  create,
  type DescMethodUnary,
  fromBinary,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from "@bufbuild/protobuf";
import { type handleUnaryCall, type Metadata, Server, ServerCredentials } from "@grpc/grpc-js";
import { QuotaService } from "#gen/tollgate/v1/lease_pb.js";

type Work<Method extends DescMethodUnary> = (
  request: MessageShape<Method["input"]>,
  metadata: Metadata,
) => Promise<MessageInitShape<Method["output"]>>;

interface Decisions {
  readonly acquire: Work<typeof QuotaService.method.acquireQuota>;
  readonly settle: Work<typeof QuotaService.method.settleLease>;
}

/** Serves acquires and settlements by @grpc/grpc-js at PORT. */
export function serveByGrpcJs({ acquire, settle }: Decisions): void {
  const server = new Server();
  const { acquireQuota, settleLease } = QuotaService.method;
  server.addService(
    { acquire: definition(acquireQuota), settle: definition(settleLease) },
    { acquire: unary(acquireQuota, acquire), settle: unary(settleLease, settle) },
  );
  server.bindAsync(`127.0.0.1:${process.env.PORT}`, ServerCredentials.createInsecure(), () => console.log("ready"));
}

function definition({ parent, name, input, output }: DescMethodUnary) {
  return {
    path: `/${parent.typeName}/${name}`,
    requestStream: false,
    responseStream: false,
    requestDeserialize: (bytes: Buffer) => fromBinary(input, bytes),
    requestSerialize: () => Buffer.alloc(0),
    responseSerialize: (message: MessageShape<typeof output>) => Buffer.from(toBinary(output, message)),
    responseDeserialize: () => undefined,
  } as const;
}

function unary<Input extends DescMethodUnary["input"], Output extends DescMethodUnary["output"]>(
  { output }: DescMethodUnary<Input, Output>,
  work: (request: MessageShape<Input>, metadata: Metadata) => Promise<MessageInitShape<Output>>,
): handleUnaryCall<MessageShape<Input>, MessageShape<Output>> {
  return (call, reply) => {
    work(call.request, call.metadata).then(
      (answer) => reply(null, create(output, answer)),
      (error: Error) => reply(error),
    );
  };
}
