import { randomUUID } from "node:crypto";
import { expect, test } from "vitest";
import type { Lease } from "../../../src/quotas/counters/engine.ts";
import { createLeaseIds } from "../../../src/quotas/ledger/lease-id.ts";
import { dayMs } from "../../../src/shared/calendar.ts";

const nowMs = Date.UTC(2026, 10, 24, 12);
const meter = { userId: 2 ** 40 + 1, service: 2, methodGroup: 3 };
const lease: Lease = {
  operationId: randomUUID(),
  day: 20_781,
  timezone: -12,
  points: 2 ** 32 - 1,
  state: "active",
  grantedMs: nowMs,
  expireMs: nowMs + 60_000,
  settledPoints: undefined,
  holder: "code planner",
};
const open = (...secrets: string[]) => createLeaseIds({ secrets, now: () => nowMs + dayMs });
const ids = open("first", "second");

test("an id holds the place of its lease and the terms of the grant", () => {
  const { operationId, day } = lease;
  expect(ids.parse(ids.toId(meter, lease))).toEqual({
    ...meter,
    operationId,
    day,
    proof: { ...lease, expireMs: nowMs, holder: "" },
  });
});

test("an id proves its lease under every accepted key, for 40 days", () => {
  const id = ids.toId(meter, lease);
  const hasProof = (parsed: { proof: unknown }) => parsed.proof !== undefined;
  expect(
    [open("second", "first"), open("other"), open("second")].map((leaseIds) => hasProof(leaseIds.parse(id))),
  ).toEqual([true, false, false]);
  const late = (ms: number) => createLeaseIds({ secrets: ["first"], now: () => nowMs + ms }).parse(id);
  expect([late(40 * dayMs), late(40 * dayMs + 1)].map(hasProof)).toEqual([true, false]);
});

test("an id with any bit changed has no proof", () => {
  const bytes = Buffer.from(ids.toId(meter, lease), "base64url");
  for (let bit = 8; bit < bytes.length * 8; bit += 1) {
    const forged = Buffer.from(bytes);
    forged[bit >> 3] = (forged[bit >> 3] ?? 0) ^ (1 << (bit & 7));
    expect(ids.parse(forged.toString("base64url")).proof).toBeUndefined();
  }
});

test("an id that is not signed is that of release 1.0.0", () => {
  const unsigned = createLeaseIds({ secrets: ["first"], now: () => nowMs, isSigning: () => false });
  const operationId = "00000000-0000-0000-0000-000000000000";
  expect(unsigned.toId({ ...meter, userId: 1 }, { ...lease, day: 20_448, operationId })).toBe(
    "AQAAAAAAAQIDAABP4AAAAAAAAAAAAAAAAAAAAAA",
  );
});

test("an id of release 1.0.0 has a place and no proof", () => {
  expect(ids.parse("AQAAAAAAAQIDAABP4AAAAAAAAAAAAAAAAAAAAAA")).toEqual({
    userId: 1,
    service: 2,
    methodGroup: 3,
    day: 20_448,
    operationId: "00000000-0000-0000-0000-000000000000",
    proof: undefined,
  });
});

test.each([
  "",
  "nonsense",
  "AQAA",
  "AgAAAAAAAQIDAABP4AAAAAAAAAAAAAAAAAAAAAA",
  "AQAAAAAAAQIDAABP4AAAAAAAAAAAAAAAAAAAAAA=",
])("refuses %j", (text) => expect(() => ids.parse(text)).toThrow("lease_id: must be a lease id"));
