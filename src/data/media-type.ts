/**
 * Returns the media type (RFC 9110, 8.3.1), or that of unknown bytes when the text is not one. It is a header of downloads,
 * so a quoted value is printable ASCII.
 */
export function toMediaType(text: string): string {
  return /^[\w!#$&^.+-]+\/[\w!#$&^.+-]+( *; *[\w!#$&^.+-]+=("[ !#-[\]-~]*"|[\w!#$&^.+-]+))*$/.test(text) &&
    text.length < 256
    ? text
    : "application/octet-stream";
}
