import { invalid } from "../core/errors.ts";
import type { Day } from "./counters/engine.ts";

/** What a lease's id says: where its counters and its row of the ledger are, without asking anybody. */
export interface LeaseKey {
  readonly userId: number;
  readonly service: number;
  readonly methodGroup: number;
  readonly day: Day;
  /** UUID, lower case. */
  readonly operationId: string;
}

const version = 1;
const length = 29;

/** 39 letters of base64url. */
export function toLeaseId({ userId, service, methodGroup, day, operationId }: LeaseKey): string {
  const bytes = Buffer.allocUnsafe(length);
  bytes.writeUInt8(version, 0);
  bytes.writeUIntBE(userId, 1, 6);
  bytes.writeUInt8(service, 7);
  bytes.writeUInt8(methodGroup, 8);
  bytes.writeInt32BE(day, 9);
  bytes.write(operationId.replaceAll("-", ""), 13, "hex");
  return bytes.toString("base64url");
}

/** @throws INVALID_ARGUMENT for what is no id of a lease */
export function parseLeaseId(text: string): LeaseKey {
  const bytes = Buffer.from(text, "base64url");
  if (bytes.length !== length || bytes[0] !== version || bytes.toString("base64url") !== text) {
    throw invalid({ field: "lease_id", message: "is no id of a lease" });
  }
  return {
    userId: bytes.readUIntBE(1, 6),
    service: bytes.readUInt8(7),
    methodGroup: bytes.readUInt8(8),
    day: bytes.readInt32BE(9),
    operationId: toUuid(bytes.toString("hex", 13)),
  };
}

/** @param hex 32 digits */
export function toUuid(hex: string): string {
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join("-");
}
