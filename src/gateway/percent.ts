/** Decodes percent-encoded UTF-8. Returns undefined for a malformed escape and for bytes that are not UTF-8. */
export function decodePercent(text: string): string | undefined {
  if (!text.includes("%")) return text;
  try {
    return decodeURIComponent(text);
  } catch {
    return undefined;
  }
}
