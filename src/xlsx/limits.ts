/** The workbook cannot be read exactly. The message says where and why. */
export class WorkbookError extends Error {}

/** Bounds on the memory that reading a workbook takes. */
export interface ReadLimits {
  /** Sum of the sizes of all files in the archive, unpacked. */
  readonly unpackedBytes: number;
  /** Files in the archive. */
  readonly files: number;
  /** XML elements of all parts that are read. */
  readonly elements: number;
  /** Cells, and separately rows and shared strings, of all sheets together. */
  readonly cells: number;
}

/**
 * Returns a counter that throws a WorkbookError when its sum exceeds the limit.
 * @param what names the counted things in the message: "cells"
 */
export function limitOf(limit: number, what: string): (more: number) => void {
  let count = 0;
  return (more) => {
    count += more;
    if (count > limit) throw new WorkbookError(`it has more than ${limit} ${what}`);
  };
}
