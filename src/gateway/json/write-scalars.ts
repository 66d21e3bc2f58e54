import { ScalarType } from "@bufbuild/protobuf";

/** Returns a function that writes the values of a scalar type as JSON text. */
export function scalarWriter(type: ScalarType): (value: unknown) => string {
  switch (type) {
    case ScalarType.STRING:
      return (value) => writeString(value as string);
    case ScalarType.BOOL:
      return (value) => (value === true ? "true" : "false");
    case ScalarType.BYTES:
      return (value) => writeBytes(value as Uint8Array);
    case ScalarType.INT64:
    case ScalarType.UINT64:
    case ScalarType.SINT64:
    case ScalarType.FIXED64:
    case ScalarType.SFIXED64:
      return writeLong;
    default:
      return writeNumber;
  }
}

/** Writes a string as JSON.stringify does. */
export function writeString(text: string): string {
  // Nearly every text can stand between quotes as it is, and the test takes a fraction of the time.
  return escaped.test(text) ? JSON.stringify(text) : `"${text}"`;
}

/** The characters that JSON.stringify escapes, and all surrogates: it escapes lone ones. */
// oxlint-disable-next-line eslint/no-control-regex -- JSON escapes control characters.
const escaped = /["\\\u0000-\u001f\ud800-\udfff]/;

/** Writes bytes as a string in base64. */
export function writeBytes({ buffer, byteOffset, byteLength }: Uint8Array): string {
  return `"${Buffer.from(buffer, byteOffset, byteLength).toString("base64")}"`;
}

function writeLong(value: unknown): string {
  const number = Number(value);
  // Beyond 2^53 a JSON number would be inexact.
  return Number.isSafeInteger(number) ? String(number) : `"${String(value)}"`;
}

function writeNumber(value: unknown): string {
  return Number.isFinite(value) ? String(value) : `"${String(value)}"`;
}
