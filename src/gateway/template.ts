/**
 * A path template of google.api.http:
 *
 *     Template = "/" Segments [ ":" Verb ]
 *     Segments = Segment { "/" Segment }
 *     Segment  = "*" | "**" | literal | Variable
 *     Variable = "{" FieldPath [ "=" Segments ] "}"
 *     FieldPath = identifier { "." identifier }
 *
 * `**` matches zero or more segments and must be last.
 */
export interface Template {
  readonly segments: readonly Segment[];
  readonly variables: readonly Variable[];
  /** Percent-decoded. */
  readonly verb: string | undefined;
}

export type Segment =
  /** Percent-decoded. */
  { readonly kind: "literal"; readonly value: string } | { readonly kind: "single" } | { readonly kind: "rest" };

/** A field that is set from the segments start..end of the path (end excluded). */
export interface Variable {
  readonly fieldPath: readonly string[];
  readonly start: number;
  readonly end: number;
  /** Whether it can match more than one segment: then %2F is not decoded. */
  readonly multiple: boolean;
  /** Whether it matches the rest of the path, beyond `end`. */
  readonly open: boolean;
}

/** Parses a path template. @throws Error that names the template and the position */
export function parseTemplate(text: string): Template {
  let position = 0;
  const segments: Segment[] = [];
  const variables: Variable[] = [];

  expect("/");
  parseSegments(false);
  let verb: string | undefined;
  if (take(":")) verb = literal();
  if (position < text.length) fail("unexpected character");
  const rest = segments.findIndex(({ kind }) => kind === "rest");
  if (rest !== -1 && rest !== segments.length - 1) fail("** must be the last segment");
  return { segments, variables, verb };

  function parseSegments(inVariable: boolean): void {
    do parseSegment(inVariable);
    while (take("/"));
  }

  function parseSegment(inVariable: boolean): void {
    if (take("**")) segments.push({ kind: "rest" });
    else if (take("*")) segments.push({ kind: "single" });
    else if (text[position] === "{") parseVariable(inVariable);
    else segments.push({ kind: "literal", value: literal() });
  }

  function parseVariable(inVariable: boolean): void {
    if (inVariable) fail("a variable must not contain a variable");
    expect("{");
    const fieldPath = [identifier()];
    while (take(".")) fieldPath.push(identifier());
    const start = segments.length;
    if (take("=")) parseSegments(true);
    else segments.push({ kind: "single" });
    expect("}");
    const own = segments.slice(start);
    const open = own.some(({ kind }) => kind === "rest");
    variables.push({ fieldPath, start, end: segments.length, multiple: open || own.length > 1, open });
  }

  function identifier(): string {
    return match(/[A-Za-z_][A-Za-z0-9_]*/y) ?? fail("a field name must follow");
  }

  function literal(): string {
    return (
      decodePercent(match(/[^/{}*:=?#]+/y) ?? fail("a segment must follow")) ??
      fail("a literal must be percent-encoded UTF-8")
    );
  }

  function match(pattern: RegExp): string | undefined {
    pattern.lastIndex = position;
    const found = pattern.exec(text)?.[0];
    position += found?.length ?? 0;
    return found;
  }

  function take(token: string): boolean {
    if (!text.startsWith(token, position)) return false;
    position += token.length;
    return true;
  }

  function expect(token: string): void {
    if (!take(token)) fail(`"${token}" must follow`);
  }

  function fail(problem: string): never {
    throw new Error(`path template ${text}: ${problem} at position ${position}`);
  }
}

/** Decodes percent-encoded UTF-8. Returns undefined for a malformed escape and for bytes that are not UTF-8. */
export function decodePercent(text: string): string | undefined {
  if (!text.includes("%")) return text;
  try {
    return decodeURIComponent(text);
  } catch {
    return undefined;
  }
}
