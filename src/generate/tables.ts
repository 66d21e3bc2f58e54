import type { Parameter } from "../gateway/openapi/parameters.ts";
import type { Schema } from "../gateway/openapi/rules.ts";
import { type Html, html, prose } from "./html.ts";
import { type Components, referenceOf, resolve, sampleOf } from "./sample.ts";

/** Returns the table of the parameters of an operation. */
export function parametersTable(parameters: readonly Parameter[], components: Components): Html {
  return html`<table>
${parameters.map(
  ({ name, in: place, required, deprecated, description, schema }) =>
    html`<tr><th><code>${name}</code></th><td>${marks([place, required === true && "required", deprecated === true && "deprecated"])}</td><td>${typeOf(schema, components)}</td><td>${prose(description)}</td></tr>`,
)}</table>`;
}

/** Creates a table of the fields of a message, with nested fields indented, and an example. */
export function schemaTable(schema: Schema, components: Components, extent: "whole" | "required"): Html {
  const rows = rowsOf(resolve(schema, components), components, [referenceOf(schema) ?? ""]);
  if (rows.length === 0) return html`<p class="small">No fields.</p>`;
  return html`<table>${rows}</table><pre>${JSON.stringify(sampleOf(schema, components, extent), undefined, 2)}</pre>`;
}

/** @param around the names of the enclosing messages. A recursive message is not expanded again. */
function rowsOf(schema: Schema, components: Components, around: readonly string[]): Html[] {
  const required = (schema.required ?? []) as string[];
  return Object.entries((schema.properties ?? {}) as Record<string, Schema>).flatMap(([name, property]) => {
    const resolved = resolve(property, components);
    const inner = (resolved.items ?? resolved.additionalProperties ?? property) as Schema;
    const message = referenceOf(inner);
    const state = marks([required.includes(name) && "required", resolved.deprecated === true && "deprecated"]);
    const row = html`<tr><th class="depth${around.length - 1}"><code>${name}</code></th><td>${state}</td><td>${typeOf(property, components)}</td><td>${prose(String(resolved.description ?? ""))}</td></tr>`;
    if (message === undefined || around.includes(message)) return [row];
    return [row, ...rowsOf(resolve(inner, components), components, [...around, message])];
  });
}

function typeOf(schema: Schema, components: Components): string {
  const resolved = resolve(schema, components);
  const text = (value: unknown) => (typeof value === "string" ? value : "");
  return [
    typeName(resolved, components),
    text(resolved.format),
    between(resolved.minimum, resolved.maximum, ""),
    resolved.exclusiveMinimum === undefined ? "" : `more than ${String(resolved.exclusiveMinimum)}`,
    resolved.exclusiveMaximum === undefined ? "" : `less than ${String(resolved.exclusiveMaximum)}`,
    between(resolved.minLength, resolved.maxLength, " characters"),
    between(resolved.minItems, resolved.maxItems, " items"),
    resolved.uniqueItems === true ? "no two alike" : "",
    text(resolved.pattern),
    Array.isArray(resolved.enum) ? resolved.enum.join(", ") : "",
    resolved.default === undefined ? "" : `default ${JSON.stringify(resolved.default)}`,
  ]
    .filter((part) => part !== "")
    .join("; ");
}

function typeName({ type, items, additionalProperties }: Schema, components: Components): string {
  if (items !== undefined) return `array of ${typeOf(items as Schema, components)}`;
  if (additionalProperties !== undefined) return `object of ${typeOf(additionalProperties as Schema, components)}`;
  return type === undefined ? "anything" : [type].flat().join(" or ");
}

function between(least: unknown, most: unknown, unit: string): string {
  if (least === undefined && most === undefined) return "";
  return most === undefined ? `${String(least)} or more${unit}` : `${String(least ?? 0)} to ${String(most)}${unit}`;
}

function marks(words: readonly (string | false)[]): string {
  return words.filter((word) => word !== false).join(", ");
}
