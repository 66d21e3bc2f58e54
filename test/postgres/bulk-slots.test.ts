import { Code, ConnectError } from "@connectrpc/connect";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { RetryInfoSchema } from "#gen/google/rpc/error_details_pb.js";
import { acquireBulkSlot, type BulkSlotOptions } from "../../src/postgres/bulk-slots.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";

let test: TestDatabase;
beforeAll(async () => {
  test = await createTestDatabase({ poolSize: 4 });
});
afterAll(() => test.drop());

const never = new AbortController().signal;
const take = (options: Partial<BulkSlotOptions> = {}) =>
  acquireBulkSlot(test.database, { kind: "uploads", signal: never, ...options });

describe("a bulk slot", () => {
  it("that is not free in time is refused with a retry delay", async () => {
    const free = await take();
    const refused = await take({ waitMs: 50 }).catch((error: unknown) => ConnectError.from(error));
    expect(refused).toMatchObject({ code: Code.Unavailable, rawMessage: "too many uploads are in progress" });
    expect((refused as ConnectError).findDetails(RetryInfoSchema)).toHaveLength(1);
    free();
  });

  it("is not lost to callers that have stopped waiting", async () => {
    const free = await take();
    const call = new AbortController();
    const leaving = [take({ waitMs: 50 }), take({ signal: call.signal })];
    const next = take();
    call.abort(new Error("went away"));
    expect((await Promise.allSettled(leaving)).map(({ status }) => status)).toEqual(["rejected", "rejected"]);
    free();
    (await next)();
    (await take({ waitMs: 50 }))();
  });

  it("goes to the caller that has waited longest", async () => {
    const free = await take();
    const order: number[] = [];
    const waiting = [1, 2, 3].map(async (number) => {
      const done = await take();
      order.push(number);
      done();
    });
    free();
    await Promise.all(waiting);
    expect(order).toEqual([1, 2, 3]);
  });

  it("of a reader does not count against uploads", async () => {
    const free = await take();
    const reader = take({ kind: "readers", waitMs: 50 });
    await expect(reader).resolves.toBeTypeOf("function");
    (await reader)();
    free();
  });
});
