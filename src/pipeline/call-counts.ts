import type { DescMethod } from "@bufbuild/protobuf";
import { addValue, createHistogram, type Histogram } from "../shared/measures.ts";

/** The calls of one RPC over one transport. */
export interface CallSeries {
  /** `package.Service/Method`, or `unknown` for requests that name no RPC. */
  readonly rpc: string;
  readonly transport: Transport;
  /** The number of calls by the number of their gRPC code. 0 is OK. */
  readonly codes: number[];
  /** Empty for requests that name no RPC. */
  readonly seconds: Histogram;
}

export interface CallCounts {
  /**
   * Counts a call that ends now. Labels come from our descriptors, never from the caller.
   * @param protocol the name of the transport in the call's context
   * @param startedMs when it began, by performance.now()
   */
  count(method: DescMethod, protocol: string, code: number, startedMs: number): void;
  /** Counts a request that names no RPC. */
  countUnknown(protocol: string, code: number): void;
  /** Returns the series of RPCs and transports that have been called. */
  list(): readonly CallSeries[];
}

const transports = ["http", "connect", "grpc", "grpc-web"] as const;
export type Transport = (typeof transports)[number];

/** The number of gRPC codes. */
const codeCount = 17;

/** Creates the counts of calls by method, transport and code. */
export function createCallCounts(): CallCounts {
  const seriesOf = new Map<DescMethod | undefined, (CallSeries | undefined)[]>();

  function find(method: DescMethod | undefined, protocol: string): CallSeries {
    const index = Math.max(0, transports.indexOf(protocol as Transport));
    const known = seriesOf.get(method);
    const series = known?.[index];
    if (series !== undefined) return series;
    const created = {
      rpc: method === undefined ? "unknown" : `${method.parent.typeName}/${method.name}`,
      transport: transports[index] as Transport,
      codes: Array.from({ length: codeCount }, () => 0),
      seconds: createHistogram(),
    };
    if (known === undefined) seriesOf.set(method, []);
    (seriesOf.get(method) as (CallSeries | undefined)[])[index] = created;
    return created;
  }

  return {
    count(method, protocol, code, startedMs) {
      const { codes, seconds } = find(method, protocol);
      codes[code] = (codes[code] ?? 0) + 1;
      addValue(seconds, (performance.now() - startedMs) / 1000);
    },
    countUnknown(protocol, code) {
      const { codes } = find(undefined, protocol);
      codes[code] = (codes[code] ?? 0) + 1;
    },
    list: () => [...seriesOf.values()].flat().filter((series) => series !== undefined),
  };
}
