/**
 * Prints proto/buf/validate/validate.proto from the descriptor in the installed @bufbuild/protovalidate, because no npm
 * package contains the file. The file therefore matches the installed version. Only declarations are printed: the
 * validator reads the CEL expressions from the package.
 */
import { writeFileSync } from "node:fs";
import type { DescEnum, DescExtension, DescField, DescMessage } from "@bufbuild/protobuf";
import { ScalarType } from "@bufbuild/protobuf";
import { FeatureSet_FieldPresence } from "@bufbuild/protobuf/wkt";
import { file_buf_validate_validate as file } from "@bufbuild/protovalidate/gen/buf/validate/validate_pb.js";

writeFileSync(
  "proto/buf/validate/validate.proto",
  [
    "// Printed by `npm run gen` from @bufbuild/protovalidate (Apache-2.0, Copyright Buf Technologies, Inc.). Do not edit.",
    'syntax = "proto2";',
    `package ${file.proto.package};`,
    ...file.dependencies.map((dependency) => `import "${dependency.proto.name}";`),
    ...file.enums.map((desc) => printEnum(desc)),
    ...file.messages.map((desc) => printMessage(desc)),
    ...file.extensions.map((desc) => `extend .${desc.extendee.typeName} { ${printField(desc)} }`),
    "",
  ].join("\n\n"),
);

function printMessage(message: DescMessage): string {
  const ranges = message.proto.extensionRange.map(({ start, end }) => `extensions ${start} to ${rangeEnd(end)};`);
  const reserved = message.proto.reservedRange.map(({ start, end }) => `reserved ${start} to ${(end ?? 0) - 1};`);
  const names = message.proto.reservedName.map((name) => `reserved "${name}";`);
  return block(`message ${message.name}`, [
    ...ranges,
    ...reserved,
    ...names,
    ...message.nestedEnums.map((desc) => printEnum(desc)),
    ...message.nestedMessages.map((desc) => printMessage(desc)),
    ...message.fields.filter((field) => field.oneof === undefined).map((field) => printField(field)),
    ...message.oneofs.map((oneof) =>
      block(
        `oneof ${oneof.name}`,
        oneof.fields.map((field) => printField(field)),
      ),
    ),
  ]);
}

function printEnum(desc: DescEnum): string {
  return block(
    `enum ${desc.name}`,
    desc.values.map((value) => `${value.name} = ${value.number};`),
  );
}

function printField(field: DescField | DescExtension): string {
  if (field.fieldKind === "map") throw new Error(`validate.proto has a map field now: ${field.name}`);
  if (field.presence === FeatureSet_FieldPresence.LEGACY_REQUIRED) throw new Error(`required field: ${field.name}`);
  const inOneof = field.kind === "field" && field.oneof !== undefined;
  const label = inOneof ? "" : field.fieldKind === "list" ? "repeated " : "optional ";
  const options = field.deprecated ? " [deprecated = true]" : "";
  return `${label}${typeName(field)} ${field.name} = ${field.number}${options};`;
}

function typeName(field: DescField | DescExtension): string {
  if (field.message !== undefined) return `.${field.message.typeName}`;
  if (field.enum !== undefined) return `.${field.enum.typeName}`;
  return ScalarType[field.scalar as ScalarType].toLowerCase();
}

function rangeEnd(end: number | undefined): string {
  return end === undefined || end > 536_870_911 ? "max" : String(end - 1);
}

function block(head: string, lines: string[]): string {
  return `${head} {\n${lines.join("\n").replaceAll(/^/gm, "  ")}\n}`;
}
