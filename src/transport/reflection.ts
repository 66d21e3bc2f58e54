import {
  type DescExtension,
  type DescFile,
  type DescService,
  type MessageInitShape,
  toBinary,
} from "@bufbuild/protobuf";
import { nestedTypes } from "@bufbuild/protobuf/reflect";
import { FileDescriptorProtoSchema } from "@bufbuild/protobuf/wkt";
import { Code, type ServiceImpl } from "@connectrpc/connect";
import type {
  ServerReflection,
  ServerReflectionRequest,
  ServerReflectionResponseSchema,
} from "#gen/grpc/reflection/v1/reflection_pb.js";
import type { ServerReflection as ServerReflectionAlpha } from "#gen/grpc/reflection/v1alpha/reflection_pb.js";
import { refusal } from "../shared/errors.ts";

type Answer = NonNullable<MessageInitShape<typeof ServerReflectionResponseSchema>["messageResponse"]>;

/** The maximum number of requests on one stream. No tool sends as many. */
const maxRequests = 1_000;

/**
 * Creates grpc.reflection over the descriptors of the services and their imports, so that tools such as `buf curl` need
 * no schema. v1 and v1alpha have the same messages, so one implementation serves both. Each file is serialized once. An
 * answer has the requested file, and those of its imports that the stream has not sent yet.
 */
export function createReflection(
  services: readonly DescService[],
): ServiceImpl<typeof ServerReflection> & ServiceImpl<typeof ServerReflectionAlpha> {
  const files = withImports(services.map(({ file }) => file));
  const filesByName = new Map(files.map((file) => [file.proto.name, file]));
  const filesBySymbol = new Map(files.flatMap((file) => symbolsOf(file).map((symbol) => [symbol, file] as const)));
  const extensions = files.flatMap(extensionsOf);
  const bytesByFile = new Map(files.map((file) => [file, toBinary(FileDescriptorProtoSchema, file.proto)]));
  const implementation: ServiceImpl<typeof ServerReflection> = {
    async *serverReflectionInfo(requests) {
      const sent = new Set<DescFile>();
      let received = 0;
      for await (const originalRequest of requests) {
        received += 1;
        if (received > maxRequests) {
          throw refusal("TOO_LARGE", `a reflection stream may have at most ${maxRequests} requests`);
        }
        yield { validHost: originalRequest.host, originalRequest, messageResponse: answer(originalRequest, sent) };
      }
    },
  };
  return implementation as ReturnType<typeof createReflection>;

  function answer({ messageRequest: request }: ServerReflectionRequest, sent: Set<DescFile>): Answer {
    switch (request.case) {
      case "listServices":
        return {
          case: "listServicesResponse",
          value: { service: services.map(({ typeName }) => ({ name: typeName })) },
        };
      case "fileByFilename":
        return fileAnswer(filesByName.get(request.value), request.value, sent);
      case "fileContainingSymbol":
        return fileAnswer(filesBySymbol.get(request.value), request.value, sent);
      case "fileContainingExtension": {
        const { containingType, extensionNumber } = request.value;
        const found = extensionsTo(containingType).find(({ number }) => number === extensionNumber);
        return fileAnswer(found?.file, `extension ${extensionNumber} of ${containingType}`, sent);
      }
      case "allExtensionNumbersOfType": {
        if (!filesBySymbol.has(request.value)) return failure(Code.NotFound, `not found: ${request.value}`);
        const extensionNumber = extensionsTo(request.value).map(({ number }) => number);
        return { case: "allExtensionNumbersResponse", value: { baseTypeName: request.value, extensionNumber } };
      }
      default:
        return failure(Code.InvalidArgument, "must be a request of grpc.reflection");
    }
  }

  /** Answers with the file and those of its imports that the stream has not sent yet. */
  function fileAnswer(file: DescFile | undefined, name: string, sent: Set<DescFile>): Answer {
    if (file === undefined) return failure(Code.NotFound, `not found: ${name}`);
    const needed = withImports([file]).filter((one) => one === file || !sent.has(one));
    for (const one of needed) sent.add(one);
    const fileDescriptorProto = needed.map((one) => bytesByFile.get(one) as Uint8Array);
    return { case: "fileDescriptorResponse", value: { fileDescriptorProto } };
  }

  function extensionsTo(typeName: string): DescExtension[] {
    return extensions.filter(({ extendee }) => extendee.typeName === typeName);
  }
}

function failure(errorCode: Code, errorMessage: string): Answer {
  return { case: "errorResponse", value: { errorCode, errorMessage } };
}

/** Returns each file once, with the first root first, as clients expect. */
function withImports(roots: readonly DescFile[]): DescFile[] {
  const found = new Set<DescFile>();
  const add = (file: DescFile) => {
    if (found.has(file)) return;
    found.add(file);
    file.dependencies.forEach(add);
  };
  roots.forEach(add);
  return [...found];
}

function extensionsOf(file: DescFile): DescExtension[] {
  return [...nestedTypes(file)].filter((desc) => desc.kind === "extension");
}

/** Returns the full names of everything that a file declares. */
function symbolsOf(file: DescFile): string[] {
  return [...nestedTypes(file)].flatMap((desc) => {
    const { typeName } = desc;
    switch (desc.kind) {
      case "message":
        return [typeName, ...[...desc.fields, ...desc.oneofs].map(({ name }) => `${typeName}.${name}`)];
      case "service":
        return [typeName, ...desc.methods.map(({ name }) => `${typeName}.${name}`)];
      case "enum":
        // The full name of an enum value is in the enum's parent.
        return [typeName, ...desc.values.map(({ name }) => `${typeName.slice(0, -desc.name.length)}${name}`)];
      case "extension":
        return [typeName];
    }
  });
}
