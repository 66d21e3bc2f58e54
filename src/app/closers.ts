/** Functions that close the opened resources, in the order of opening. Each part that opens a resource adds one. */
export type Closers = (() => Promise<unknown>)[];

/**
 * Closes everything, in the reverse order of opening.
 * @throws the first failure, after everything else is closed
 */
export async function closeAll(closers: Closers): Promise<void> {
  let failure: unknown;
  // A resource that fails to close must not keep the others open.
  for (const close of closers.toReversed()) await close().catch((error: unknown) => (failure ??= error));
  if (failure !== undefined) throw failure;
}
