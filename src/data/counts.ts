import { addValue, createHistogram, type Histogram } from "../shared/measures.ts";
import type { ConversionKind } from "./convert/convert-bytes.ts";
import type { StoredUpload } from "./upload.ts";

/** The uploads and conversions since the start. */
export interface DataCounts {
  readonly uploads: {
    stored: number;
    /** Uploads of bytes that were stored already. */
    repeated: number;
    failed: number;
    /** Bytes of stored uploads. */
    bytes: number;
  };
  /** By the kind of the stored file. */
  readonly conversions: Readonly<Record<ConversionKind, Conversions>>;
}

interface Conversions {
  converted: number;
  failed: number;
  /** The duration of each conversion, with its time in the queue. */
  readonly seconds: Histogram;
}

const conversionBounds = [0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40];

/** Creates the counts of uploads and conversions, all zero. */
export function createDataCounts(): DataCounts {
  const conversions = () => ({ converted: 0, failed: 0, seconds: createHistogram(conversionBounds) });
  return {
    uploads: { stored: 0, repeated: 0, failed: 0, bytes: 0 },
    conversions: { json: conversions(), xlsx: conversions() },
  };
}

/** Counts an upload when it ends, and returns its result. */
export async function countUpload({ uploads }: DataCounts, work: Promise<StoredUpload>): Promise<StoredUpload> {
  const stored = await work.catch((error: unknown) => {
    uploads.failed += 1;
    throw error;
  });
  if (stored.repeated) uploads.repeated += 1;
  else {
    uploads.stored += 1;
    uploads.bytes += stored.bytes;
  }
  return stored;
}

/** Counts a conversion when it ends, and returns its result. */
export async function countConversion<Result>(
  { conversions }: DataCounts,
  kind: ConversionKind,
  work: Promise<Result>,
): Promise<Result> {
  const counts = conversions[kind];
  const startedMs = performance.now();
  try {
    const result = await work;
    counts.converted += 1;
    return result;
  } catch (error) {
    counts.failed += 1;
    throw error;
  } finally {
    addValue(counts.seconds, (performance.now() - startedMs) / 1000);
  }
}
