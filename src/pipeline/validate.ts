import { type DescField, type DescMessage, getOption, type Message } from "@bufbuild/protobuf";
import { pathToString } from "@bufbuild/protobuf/reflect";
import { createValidator, type Violation as LibraryViolation } from "@bufbuild/protovalidate";
import {
  type EnumRules,
  type FieldRules,
  type RepeatedRules,
  field as rulesOption,
} from "@bufbuild/protovalidate/gen/buf/validate/validate_pb.js";
import { internal, type Violation } from "../shared/errors.ts";

/**
 * Creates a function that checks a message against the rules of its .proto. It returns the broken rules, in words, and an
 * empty list for a valid message. The first check of a type compiles its rules, which takes about 80 ms.
 * The function throws INTERNAL when a rule cannot be evaluated.
 */
export function createValidate(): (desc: DescMessage, message: Message) => readonly Violation[] {
  const validator = createValidator({ regexMatch: matches });
  return (desc, message) => {
    const result = validator.validate(desc, message);
    if (result.kind === "error") throw internal(result.error);
    return result.kind === "valid" ? none : result.violations.map(describe);
  };
}

const none: readonly Violation[] = [];

function describe({ field, ruleId, message }: LibraryViolation): Violation {
  return { field: pathToString(field), message: ruleInWords(ruleId, field.findLast(isField)) ?? message };
}

function isField(step: LibraryViolation["field"][number]): step is DescField {
  return step.kind === "field";
}

/** Returns the rule for those whose text in the library is not in the words of our errors. */
function ruleInWords(ruleId: string, field: DescField | undefined): string | undefined {
  const { value, list } = rulesOf(field);
  switch (ruleId) {
    case "required":
      return "must be set";
    case "string.pattern":
      return value?.case === "string" ? patterns.get(value.value.pattern)?.words : undefined;
    case "string.email_empty":
      return "must be a valid email address";
    case "string.uuid_empty":
      return "must be a valid UUID";
    case "enum.defined_only":
    case "enum.in":
    case "enum.not_in":
      return value?.case === "enum" ? `must be one of ${namesOf(field, value.value).join(", ")}` : undefined;
    case "repeated.min_items":
      return `must have at least ${countOf(list?.minItems)}`;
    case "repeated.max_items":
      return `must have at most ${countOf(list?.maxItems)}`;
    case "repeated.unique":
      return "must not have an item twice";
    default:
      return undefined;
  }
}

interface Rules {
  /** Of the value, or of each item of the list. */
  readonly value?: FieldRules["type"] | undefined;
  readonly list?: RepeatedRules | undefined;
}

const rulesByField = new WeakMap<DescField, Rules>();

/** Reads an option once: that decodes it, and a request may have a violation in each item of a long list. */
function rulesOf(field: DescField | undefined): Rules {
  if (field === undefined) return {};
  const known = rulesByField.get(field);
  if (known !== undefined) return known;
  const { type } = getOption(field, rulesOption);
  const rules = type.case === "repeated" ? { value: type.value.items?.type, list: type.value } : { value: type };
  rulesByField.set(field, rules);
  return rules;
}

function namesOf(field: DescField | undefined, { in: only, notIn }: EnumRules): string[] {
  return (field?.enum?.values ?? [])
    .filter(({ number }) => !notIn.includes(number) && (only.length === 0 || only.includes(number)))
    .map(({ name }) => name)
    .filter((name) => !name.endsWith("UNSPECIFIED"));
}

function countOf(items = 0n): string {
  return items === 1n ? "1 item" : `${items} items`;
}

/**
 * Every pattern of our protos and its rule in words. JavaScript's engine is twenty times faster than the library's RE2.
 * It is safe here: these patterns use character classes only, which mean the same in both engines.
 */
const patterns = new Map(
  [
    { pattern: "^\\w+$", words: "must contain only letters (a to z, A to Z), digits and underscores" },
    { pattern: "^[^\\x00-\\x1f\\x7f]+$", words: "must not contain control characters" },
    {
      pattern: "^[^\\x00-\\x1f\\x7f/\\\\]+$",
      words: "must not contain control characters, slashes or backslashes",
    },
    {
      pattern: "^([1-9][0-9]{0,2}%|[1-9][0-9]{0,14})$",
      words: "must be a percentage such as 80%, from 1% to 999%, or a number of points such as 5000",
    },
    { pattern: "^[0-9a-fA-F]{64}$", words: "must be 64 hexadecimal digits" },
  ].map(({ pattern, words }) => [pattern, { regex: new RegExp(pattern, "u"), words }]),
);

function matches(pattern: string, text: string): boolean {
  const known = patterns.get(pattern);
  if (known === undefined) throw new Error(`the pattern ${pattern} must be listed with its rule in words`);
  return known.regex.test(text);
}
