import { expect, test } from "vitest";
import { readBatches } from "../../../src/quotas/leases/batches.ts";

test("a reader can leave while the sender is silent", async () => {
  async function* source() {
    yield 1;
    await new Promise(() => undefined);
  }
  const reading = readBatches(source(), 10);
  expect((await reading.next()).value).toEqual([1]);
  expect(await reading.return(undefined)).toEqual({ done: true, value: undefined });
});
