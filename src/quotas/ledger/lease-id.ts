import { createHmac, timingSafeEqual } from "node:crypto";
import { invalid } from "../../shared/errors.ts";
import type { Day, Lease, Meter } from "../counters/engine.ts";
import { dayMs } from "../counters/window.ts";

/** What a lease's id says: where its counters and its row of the ledger are. */
export interface LeaseKey {
  readonly userId: number;
  readonly service: number;
  readonly methodGroup: number;
  readonly day: Day;
  /** UUID, lower case. */
  readonly operationId: string;
}

export interface ParsedLeaseId extends LeaseKey {
  /**
   * The lease as it was granted, without its holder and with nothing left of its life: it stands in where the ledger has
   * lost it. Undefined for an id that these servers have not signed, or long ago: only the ledger knows whether it is one.
   */
  readonly proof: Lease | undefined;
}

export interface LeaseIds {
  /** 64 letters of base64url, the same for one grant whoever asks. */
  toId(meter: Meter, lease: Lease): string;
  /** @throws INVALID_ARGUMENT for what has not the form of a lease id */
  parse(text: string): ParsedLeaseId;
}

export interface LeaseIdsOptions {
  /** The first signs, all are accepted. */
  readonly secrets: readonly string[];
  /** Milliseconds since the epoch. */
  readonly now: () => number;
}

/** Version 1, of the release before: not signed. */
const unsigned = { version: 1, length: 29 };
const signed = { version: 2, length: 48 };
const macLength = 8;
const macStart = signed.length - macLength;
/** The ledger keeps a lease for this long at least: a lease that it does not know by then is not a lost one. */
const proofMs = 40 * dayMs;

export function createLeaseIds({ secrets, now }: LeaseIdsOptions): LeaseIds {
  const keys = secrets.map((secret) => createHmac("sha256", secret).update("lease id").digest());

  return {
    toId({ userId, service, methodGroup }, { day, operationId, grantedMs, points, timezone }) {
      const bytes = Buffer.allocUnsafe(signed.length);
      bytes.writeUInt8(signed.version, 0);
      bytes.writeUIntBE(userId, 1, 6);
      bytes.writeUInt8(service, 7);
      bytes.writeUInt8(methodGroup, 8);
      bytes.writeInt32BE(day, 9);
      bytes.write(operationId.replaceAll("-", ""), 13, "hex");
      bytes.writeUIntBE(grantedMs, 29, 6);
      bytes.writeUInt32BE(points, 35);
      bytes.writeInt8(timezone, 39);
      macOf(bytes, keys[0] as Buffer).copy(bytes, macStart, 0, macLength);
      return bytes.toString("base64url");
    },

    parse(text) {
      const bytes = Buffer.from(text, "base64url");
      const form = bytes[0] === unsigned.version ? unsigned : signed;
      if (bytes.length !== form.length || bytes[0] !== form.version || bytes.toString("base64url") !== text) {
        throw invalid({ field: "lease_id", message: "must be a lease id" });
      }
      const key = {
        userId: bytes.readUIntBE(1, 6),
        service: bytes.readUInt8(7),
        methodGroup: bytes.readUInt8(8),
        day: bytes.readInt32BE(9),
        operationId: toUuid(bytes.toString("hex", 13, 29)),
      };
      return { ...key, proof: form === signed ? proofOf(bytes, key) : undefined };
    },
  };

  function proofOf(bytes: Buffer, { day, operationId }: LeaseKey): Lease | undefined {
    const mac = bytes.subarray(macStart);
    if (!keys.some((key) => timingSafeEqual(mac, macOf(bytes, key).subarray(0, macLength)))) return undefined;
    const grantedMs = bytes.readUIntBE(29, 6);
    if (grantedMs < now() - proofMs) return undefined;
    return {
      operationId,
      day,
      timezone: bytes.readInt8(39),
      points: bytes.readUInt32BE(35),
      state: "active",
      grantedMs,
      expireMs: grantedMs,
      settledPoints: undefined,
      holder: "",
    };
  }
}

function macOf(bytes: Buffer, key: Buffer): Buffer {
  return createHmac("sha256", key).update(bytes.subarray(0, macStart)).digest();
}

/** @param hex 32 digits */
export function toUuid(hex: string): string {
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join("-");
}
