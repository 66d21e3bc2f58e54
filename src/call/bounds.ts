/** A broken rule and the path of its field, such as `services[0].service`. */
export interface FieldViolation {
  readonly field: string;
  readonly description: string;
}

/**
 * An error must fit into the header block of gRPC and Connect, twice: as percent-encoded text, and in base64 with its
 * details. Many clients accept 8 KiB of headers. These bounds keep both near 4 KiB.
 */
const maxMessageBytes = 900;
const maxViolationBytes = 800;
const maxFieldBytes = 160;
const maxDescriptionBytes = 320;
/** Room for the longest resource name, 256 characters. */
export const maxNameBytes = 320;

/** Keeps the first violations, with long texts shortened. `omitted` counts the rest. */
export function boundViolations(violations: readonly FieldViolation[]): {
  kept: FieldViolation[];
  omitted: number;
} {
  const kept: FieldViolation[] = [];
  let bytes = 0;
  for (const { field, description } of violations) {
    const bounded = {
      field: boundText(field, maxFieldBytes),
      description: boundText(description, maxDescriptionBytes),
    };
    bytes += encodedBytes(bounded.field) + encodedBytes(bounded.description) + 4;
    if (bytes > maxViolationBytes && kept.length > 0) break;
    kept.push(bounded);
  }
  return { kept, omitted: violations.length - kept.length };
}

/**
 * Returns a text that fits, or its start and the number of characters cut. Half of a character, which a text that quotes
 * the caller's may end with, is replaced: it cannot be encoded, and gRPC would lose the whole error.
 */
export function boundText(given: string, maxBytes: number = maxMessageBytes): string {
  const text = given.toWellFormed();
  // A code unit takes at most three bytes of UTF-8, and each byte at most three characters when percent-encoded.
  if (text.length * 9 <= maxBytes || encodedBytes(text) <= maxBytes) return text;
  const room = maxBytes - suffixBytes;
  let end = 0;
  let bytes = 0;
  for (const character of text) {
    bytes += encodedBytes(character);
    if (bytes > room) break;
    end += character.length;
  }
  return `${text.slice(0, end)}… (${text.length - end} more characters)`;
}

const suffixBytes = 40;

/** Counts the bytes of a text when everything except printable ASCII is percent-encoded. */
function encodedBytes(text: string): number {
  let bytes = 0;
  for (const character of text) {
    const code = character.codePointAt(0) ?? 0;
    if (code >= 0x20 && code <= 0x7e && code !== 0x25) bytes += 1;
    else bytes += 3 * (code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4);
    // No bound is larger: the rest need not be counted.
    if (bytes > maxMessageBytes) return bytes;
  }
  return bytes;
}
