/** One broken rule and the path of its field, `services[0].service`. */
export interface FieldViolation {
  readonly field: string;
  readonly description: string;
}

/**
 * What an error says has to fit into the header block of gRPC and Connect, twice: as percent-encoded text, and in
 * base64 with its details. Many clients read 8 KiB of headers. These bounds keep all of it near 4 KiB.
 */
const maxMessageBytes = 900;
const maxViolationBytes = 800;
const maxFieldBytes = 160;
const maxDescriptionBytes = 320;
/** The longest name of a resource is 256 characters. */
export const maxNameBytes = 320;

/** The first violations, shortened where one is long, and how many are left out. */
export function boundViolations(violations: readonly FieldViolation[]): {
  kept: FieldViolation[];
  left: number;
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
  return { kept, left: violations.length - kept.length };
}

/** A text that fits, or its start and how many characters follow. */
export function boundText(text: string, maxBytes: number = maxMessageBytes): string {
  // Three bytes for each of its code units is the most that percent-encoding takes in ASCII or makes of one byte.
  if (text.length * 9 <= maxBytes || encodedBytes(text) <= maxBytes) return text;
  const room = maxBytes - tailBytes;
  let end = 0;
  let bytes = 0;
  for (const character of text) {
    bytes += encodedBytes(character);
    if (bytes > room) break;
    end += character.length;
  }
  return `${text.slice(0, end)}… (${text.length - end} more characters)`;
}

const tailBytes = 40;

/** How many bytes the text takes where all but printable ASCII is percent-encoded. */
function encodedBytes(text: string): number {
  let bytes = 0;
  for (const character of text) {
    const code = character.codePointAt(0) ?? 0;
    if (code >= 0x20 && code <= 0x7e && code !== 0x25) bytes += 1;
    else bytes += 3 * (code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4);
    // A longer text is too long for every bound here.
    if (bytes > maxMessageBytes) return bytes;
  }
  return bytes;
}
