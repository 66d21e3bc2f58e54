import { create, type DescMessage, fromBinary, type Message, type Registry, toJson } from "@bufbuild/protobuf";
import {
  type Any,
  hasCustomJsonRepresentation,
  isWrapperDesc,
  type ListValue,
  type Struct,
  type Value,
} from "@bufbuild/protobuf/wkt";
import { writeListValue, writeStruct, writeValue } from "./struct.ts";
import { toIsoDuration } from "./times.ts";
import { scalarWriter, writeBytes, writeString } from "./write-scalars.ts";

type WriteJson = (value: unknown) => string;

/**
 * Returns the writer of a message type whose JSON is not an object of its fields. Undefined for other types.
 * @param registry the types that a google.protobuf.Any may contain; others are written as bytes
 * @param messageWriter returns the writer of the content of an Any
 */
export function specialWriter(
  desc: DescMessage,
  registry: Registry | undefined,
  messageWriter: (desc: DescMessage) => WriteJson,
): WriteJson | undefined {
  if (!hasCustomJsonRepresentation(desc)) return undefined;
  const write = writerOf(desc, registry, messageWriter);
  return (value) => write(create(desc, value as Record<string, unknown>));
}

function writerOf(
  desc: DescMessage,
  registry: Registry | undefined,
  messageWriter: (desc: DescMessage) => WriteJson,
): (message: Message) => string {
  if (isWrapperDesc(desc)) {
    const write = scalarWriter(desc.fields[0].scalar);
    return (message) => write((message as Message & { readonly value: unknown }).value);
  }
  switch (desc.typeName) {
    case "google.protobuf.Any":
      return (message) => writeAny(message as Any, registry, messageWriter);
    case "google.protobuf.Struct":
      return (message) => JSON.stringify(writeStruct(message as Struct));
    case "google.protobuf.Value":
      return (message) => JSON.stringify(writeValue(message as Value));
    case "google.protobuf.ListValue":
      return (message) => JSON.stringify(writeListValue(message as ListValue));
    case "google.protobuf.Duration":
      return (message) => writeString(toIsoDuration(String(toJson(desc, message))));
    default:
      return (message) => JSON.stringify(toJson(desc, message));
  }
}

/** Writes an Any. An unknown type or invalid bytes do not fail the call: the bytes are written. */
function writeAny(
  { typeUrl, value }: Any,
  registry: Registry | undefined,
  messageWriter: (desc: DescMessage) => WriteJson,
): string {
  if (typeUrl === "") return "{}";
  const type = `{"@type":${writeString(typeUrl)}`;
  const desc = registry?.getMessage(typeUrl.slice(typeUrl.lastIndexOf("/") + 1));
  const content = desc && unpack(desc, value);
  if (desc === undefined || content === undefined) return `${type},"value":${writeBytes(value)}}`;
  const json = messageWriter(desc)(content);
  if (hasCustomJsonRepresentation(desc)) return `${type},"value":${json}}`;
  return json === "{}" ? `${type}}` : `${type},${json.slice(1)}`;
}

function unpack(desc: DescMessage, bytes: Uint8Array): Message | undefined {
  try {
    return fromBinary(desc, bytes);
  } catch {
    return undefined;
  }
}
