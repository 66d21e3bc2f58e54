/** Escaped HTML. */
export interface Html {
  readonly html: string;
}

/** Builds HTML from a template. Escapes values that are not HTML, and joins the items of a list. */
export function html(
  parts: TemplateStringsArray,
  ...values: readonly (string | number | Html | readonly Html[])[]
): Html {
  return { html: parts.reduce((text, part, index) => text + render(values[index - 1] ?? "") + part) };
}

/** Converts the text of a comment to HTML. Words in backticks become code. */
export function prose(text: string): readonly Html[] {
  return text.split("`").map((part, index) => (index % 2 === 1 ? html`<code>${part}</code>` : html`${part}`));
}

function render(value: string | number | Html | readonly Html[]): string {
  if (typeof value === "string") return escape(value);
  if (typeof value === "number") return String(value);
  return "html" in value ? value.html : value.map(({ html: text }) => text).join("");
}

function escape(text: string): string {
  const entities: Readonly<Record<string, string>> = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" };
  return text.replaceAll(/[&<>"]/g, (letter) => entities[letter] ?? letter);
}
