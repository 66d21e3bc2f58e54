import { type DescField, type DescMessage, getOption, hasOption, type Message, ScalarType } from "@bufbuild/protobuf";
import { FeatureSet_FieldPresence, type Value } from "@bufbuild/protobuf/wkt";
import { default_value } from "#gen/gateway/v1/annotations_pb.js";
import { isNullable } from "./fields.ts";

/** Sets the fields that a message leaves out to the defaults that its .proto declares, in nested messages too. */
export type FillDefaults = (message: Message) => void;

/**
 * Prepares the defaults of a message; undefined where neither it nor a message within it declares one.
 * @throws Error for a default that its field cannot have
 */
export function createFillDefaults(desc: DescMessage): FillDefaults | undefined {
  return declaresDefaults(desc, new Set()) ? fillerOf(desc) : undefined;
}

/** The default that a field's .proto declares, as JSON writes it; undefined where it declares none. */
export function defaultOf(field: DescField): string | number | boolean | null | undefined {
  if (!hasOption(field, default_value)) return undefined;
  const { kind } = getOption(field, default_value);
  const { value } = kind;
  if (kind.case === "nullValue" && isNullable(field)) return null;
  const isKnowable = field.presence === FeatureSet_FieldPresence.EXPLICIT && field.oneof === undefined;
  const fits =
    field.fieldKind === "enum"
      ? field.enum.values.some(({ name }) => name === value)
      : field.fieldKind === "scalar" && kinds.get(field.scalar) === kind.case;
  if (isKnowable && fits) return value as string | number | boolean;
  throw new Error(`default_value of ${field.parent.typeName}.${field.name}: must be a value of an optional field`);
}

/** 64-bit integers are left out: a double does not hold all of them. */
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

/** Looks at every field, so that a wrong default fails before anything is prepared. */
function declaresDefaults(desc: DescMessage, seen: Set<DescMessage>): boolean {
  if (seen.has(desc)) return false;
  seen.add(desc);
  const declaring = desc.fields.filter((field) => {
    const isWithin = field.message !== undefined && declaresDefaults(field.message, seen);
    return (defaultOf(field) ?? undefined) !== undefined || isWithin;
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
  // Known before its fields are looked at: a message may hold itself.
  fillers.set(desc, fill);
  steps.push(...desc.fields.flatMap((field) => stepOf(field) ?? []));
  return fill;
}

function stepOf(field: DescField): Step | undefined {
  const { localName: name, oneof, message } = field;
  const declared = defaultOf(field);
  if (declared !== undefined && declared !== null) {
    const value = field.enum?.values.find((one) => one.name === declared)?.number ?? declared;
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
