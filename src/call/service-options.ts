import type { DescMethod, DescService } from "@bufbuild/protobuf";
import type { HandlerContext, ServiceImpl } from "@connectrpc/connect";

/** Options that the gateway and the gRPC server share. */
export interface ServiceOptions {
  /** Services and their implementations, as Connect's router takes them. */
  readonly services: readonly {
    readonly service: DescService;
    readonly implementation: Partial<ServiceImpl<DescService>>;
  }[];
  /** The largest request body of a method. */
  readonly maxBodyBytes: (method: DescMethod) => number;
  /** How long a caller may take to send a body. */
  readonly bodyTimeoutMs: number;
  /**
   * Authorizes the caller before the request is read. Returns undefined when no I/O was needed. The promise settles when
   * the context is interrupted.
   */
  readonly admit?: (context: HandlerContext) => Promise<void> | undefined;
}
