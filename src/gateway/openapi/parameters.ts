import type { DescMessage } from "@bufbuild/protobuf";
import type { Binding } from "../binding.ts";
import { type FieldPath, isWellKnown, nameOf } from "../fields.ts";
import { isText } from "../text.ts";
import { isRequired, type Schema } from "./rules.ts";
import type { Schemas } from "./schema.ts";

export interface Parameter {
  readonly name: string;
  readonly in: "path" | "query";
  readonly description: string;
  readonly required?: true;
  readonly deprecated?: true;
  readonly schema: Schema;
}

/** Lists the path parameters, then the query parameters: fields that can be text and are not in the path or the body. */
export function parametersOf({ method, template, body, mask }: Binding, schemas: Schemas): Parameter[] {
  const inPath = template.variables.map(({ fieldPath }) => pathTo(method.input, fieldPath));
  const reserved = new Set(inPath.map((path) => nameOf(path)));
  const inQuery =
    body === "*"
      ? []
      : textPaths(method.input, []).filter(
          (path) => path[0] !== body && path[0] !== mask && !reserved.has(nameOf(path)),
        );
  return [
    ...inPath.map((path) => createParameter(path, "path", schemas)),
    ...inQuery.map((path) => createParameter(path, "query", schemas)),
  ];
}

function createParameter(path: FieldPath, location: Parameter["in"], schemas: Schemas): Parameter {
  const field = path.at(-1);
  if (field === undefined) throw new Error("a field path must not be empty");
  const { description, deprecated, ...schema } = schemas.field(field, "request");
  return {
    name: nameOf(path),
    in: location,
    description: typeof description === "string" ? description : "",
    // A nested field is required only if every message on its path is.
    ...((location === "path" || path.every((field) => isRequired(field))) && { required: true }),
    ...(deprecated === true && { deprecated: true }),
    schema,
  };
}

/** Lists the paths to all fields that can be text. A recursive message is entered once. */
function textPaths(message: DescMessage, above: readonly DescMessage[]): FieldPath[] {
  return message.fields.flatMap((field): FieldPath[] => {
    if (isText(field)) return [[field]];
    if (field.fieldKind !== "message" || isWellKnown(field.message)) return [];
    const around = [...above, message];
    if (around.includes(field.message)) return [];
    return textPaths(field.message, around).map((path) => [field, ...path]);
  });
}

function pathTo(message: DescMessage, names: readonly string[]): FieldPath {
  const [name, ...rest] = names;
  const field = message.fields.find((candidate) => candidate.name === name);
  if (field === undefined) throw new Error(`${message.typeName} has no field ${names.join(".")}`);
  return rest.length === 0 || field.message === undefined ? [field] : [field, ...pathTo(field.message, rest)];
}
