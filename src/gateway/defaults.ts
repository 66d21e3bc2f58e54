import { type DescField, type DescMessage, getOption, hasOption, type Message, ScalarType } from "@bufbuild/protobuf";
import { FeatureSet_FieldPresence, type Value } from "@bufbuild/protobuf/wkt";
import { default_value } from "#gen/gateway/v1/annotations_pb.js";
import { isNullable } from "./fields.ts";

/** Sets absent fields to the defaults that the .proto declares, in nested messages too. */
export type FillDefaults = (message: Message) => void;

/**
 * Prepares the defaults of a message type; undefined when neither it nor a nested message declares one.
 * @throws Error when a field cannot have its declared default
 */
export function createFillDefaults(desc: DescMessage): FillDefaults | undefined {
  return declaresDefaults(desc, new Set()) ? fillerOf(desc) : undefined;
}

/**
 * Returns the declared default of a field as JSON; undefined when it declares none.
 * @throws Error when the field cannot have that default
 */
export function defaultOf(field: DescField): string | number | boolean | null | undefined {
  if (!hasOption(field, default_value)) return undefined;
  const { kind } = getOption(field, default_value);
  const { value } = kind;
  if (kind.case === "nullValue" && isNullable(field)) return null;
  const hasPresence = field.presence === FeatureSet_FieldPresence.EXPLICIT && field.oneof === undefined;
  const fits =
    field.fieldKind === "enum"
      ? field.enum.values.some(({ name }) => name === value)
      : field.fieldKind === "scalar" && kinds.get(field.scalar) === kind.case;
  if (hasPresence && fits) return value as string | number | boolean;
  throw new Error(`default_value of ${field.parent.typeName}.${field.name}: must be a value of an optional field`);
}

/** The kind of Value that a default must have. A double cannot hold all 64-bit integers, so they have no default. */
const kinds: ReadonlyMap<ScalarType, Value["kind"]["case"]> = new Map([
  [ScalarType.STRING, "stringValue"],
  [ScalarType.BOOL, "boolValue"],
  [ScalarType.INT32, "numberValue"],
  [ScalarType.UINT32, "numberValue"],
  [ScalarType.DOUBLE, "numberValue"],
]);

type Fields = Record<string, unknown>;

type Step = (fields: Fields) => void;

const fillers = new WeakMap<DescMessage, FillDefaults>();

/** Checks every field, so that a wrong default fails early. */
function declaresDefaults(desc: DescMessage, seen: Set<DescMessage>): boolean {
  if (seen.has(desc)) return false;
  seen.add(desc);
  const declaring = desc.fields.filter((field) => {
    const isNested = field.message !== undefined && declaresDefaults(field.message, seen);
    return (defaultOf(field) ?? undefined) !== undefined || isNested;
  });
  return declaring.length > 0;
}

function fillerOf(desc: DescMessage): FillDefaults {
  const known = fillers.get(desc);
  if (known !== undefined) return known;
  const steps: Step[] = [];
  const fill = (message: Message) => {
    for (const step of steps) step(message);
  };
  // Stored before its fields are prepared: a message type may contain itself.
  fillers.set(desc, fill);
  steps.push(...desc.fields.flatMap((field) => stepOf(field) ?? []));
  return fill;
}

function stepOf(field: DescField): Step | undefined {
  const { localName: name, oneof, message } = field;
  const declared = defaultOf(field);
  if (declared !== undefined && declared !== null) {
    const value = field.enum?.values.find(({ name: valueName }) => valueName === declared)?.number ?? declared;
    return (fields) => void (fields[name] ??= value);
  }
  if (message === undefined || !declaresDefaults(message, new Set())) return undefined;
  const fill = fillerOf(message);
  if (oneof !== undefined) {
    return (fields) => {
      const chosen = fields[oneof.localName] as { case?: string; value?: Message };
      if (chosen.case === name && chosen.value !== undefined) fill(chosen.value);
    };
  }
  if (field.fieldKind === "message") return (fields) => void (fields[name] && fill(fields[name] as Message));
  return (fields) => {
    for (const item of Object.values(fields[name] as object)) fill(item as Message);
  };
}
