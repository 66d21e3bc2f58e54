import { create, type DescField } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { BadRequestSchema } from "#gen/google/rpc/error_details_pb.js";

/** A failure of HTTP itself, whose status says more than a code of gRPC. */
export class HttpError extends Error {
  readonly status: number;
  readonly code: Code;
  /** Headers that belong to the status, such as Allow. */
  readonly headers: Readonly<Record<string, string>>;

  constructor(status: number, code: Code, message: string, headers: Readonly<Record<string, string>> = {}) {
    super(message);
    this.status = status;
    this.code = code;
    this.headers = headers;
  }
}

/** One broken rule and the path of its field, `services[0].service`. */
export interface FieldViolation {
  readonly field: string;
  readonly description: string;
}

/** INVALID_ARGUMENT that names every field and its rule. */
export function badRequest(fieldViolations: readonly FieldViolation[]): ConnectError {
  const text = fieldViolations.map(({ field, description }) =>
    field === "" ? description : `${field}: ${description}`,
  );
  return new ConnectError(text.join("; "), Code.InvalidArgument, undefined, [
    { desc: BadRequestSchema, value: create(BadRequestSchema, { fieldViolations: [...fieldViolations] }) },
  ]);
}

export function badField(field: string, description: string): ConnectError {
  return badRequest([{ field, description }]);
}

/** What is wrong with a field, or with one item of it, that protobuf-es could not read. */
export function reasonOf(field: DescField, error: unknown, isItem = field.fieldKind !== "list"): string {
  if (field.enum !== undefined) {
    const names = field.enum.values.map(({ name }) => name).filter((name) => !name.endsWith("UNSPECIFIED"));
    return `must be ${isItem ? "one of" : "a list of"} ${names.join(", ")}`;
  }
  return textOf(error);
}

/** What protobuf-es says, without the name of the field. */
export function textOf(error: unknown): string {
  const message = error instanceof Error ? error.message : "";
  const text = message.replace(/^cannot decode .*? from JSON:? /, "").replace(/^(list item|map entry) \S+: /, "");
  // Of some types it tells the value alone.
  return /^(".*|\S*)$/.test(text) ? "is not valid" : text;
}
