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

/** What is wrong with a field that protobuf-es could not read. */
export function reasonOf(field: DescField, error: unknown): string {
  if (field.enum !== undefined) {
    const names = field.enum.values.map(({ name }) => name).filter((name) => !name.endsWith("UNSPECIFIED"));
    return `must be ${field.fieldKind === "list" ? "a list of" : "one of"} ${names.join(", ")}`;
  }
  // It says "cannot decode field x from JSON: reason"; the field is named beside it.
  const message = error instanceof Error ? error.message : "is not valid";
  return message.replace(/^cannot decode .*? from JSON: /, "");
}
