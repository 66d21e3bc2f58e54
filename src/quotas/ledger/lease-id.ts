import { createHmac, timingSafeEqual } from "node:crypto";
import { type Day, dayMs } from "../../shared/calendar.ts";
import { invalid } from "../../shared/errors.ts";
import type { Lease, Meter } from "../counters/engine.ts";

/** The key of a lease, for its counters and its row in the ledger. */
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
   * The lease at its grant, without a holder and already expired. It replaces a row that the ledger has lost. Undefined if
   * the id has no valid signature or is older than 40 days: only the ledger can tell whether the lease exists.
   */
  readonly proof: Lease | undefined;
}

export interface LeaseIds {
  /** Returns 64 characters of base64url, or 39 without a signature. A grant has the same id on every server of a release. */
  toId(meter: Meter, lease: Lease): string;
  /** @throws INVALID_ARGUMENT when the text is not a lease id */
  parse(text: string): ParsedLeaseId;
}

export interface LeaseIdsOptions {
  /** The first secret signs. Signatures of all are accepted. */
  readonly secrets: readonly string[];
  /** Milliseconds since the epoch. */
  readonly now: () => number;
  /** Whether ids are signed; default: always. Servers of release 1.0 refuse signed ids. */
  readonly isSigning?: (() => boolean) | undefined;
}

/** Version 1, of release 1.0: without a signature. */
const unsigned = { version: 1, length: 29 };
const signed = { version: 2, length: 48 };
const macLength = 8;
const macStart = signed.length - macLength;
/** The ledger keeps leases for at least this long. A signature proves nothing about an older lease. */
const proofMs = 40 * dayMs;

/** Creates the writer and reader of lease ids. */
export function createLeaseIds({ secrets, now, isSigning = () => true }: LeaseIdsOptions): LeaseIds {
  const keys = secrets.map((secret) => createHmac("sha256", secret).update("lease id").digest());

  return {
    toId({ userId, service, methodGroup }, { day, operationId, grantedMs, points, timezone }) {
      const form = isSigning() ? signed : unsigned;
      const bytes = Buffer.allocUnsafe(form.length);
      bytes.writeUInt8(form.version, 0);
      bytes.writeUIntBE(userId, 1, 6);
      bytes.writeUInt8(service, 7);
      bytes.writeUInt8(methodGroup, 8);
      bytes.writeInt32BE(day, 9);
      bytes.write(operationId.replaceAll("-", ""), 13, "hex");
      if (form === unsigned) return bytes.toString("base64url");
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

/** Formats 32 hexadecimal digits as a UUID. */
export function toUuid(hex: string): string {
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join("-");
}
