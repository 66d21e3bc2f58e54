import { create, type JsonValue, type Message, type MessageInitShape, type Registry } from "@bufbuild/protobuf";
import { reflect } from "@bufbuild/protobuf/reflect";
import { FieldMaskSchema, isWrapperDesc } from "@bufbuild/protobuf/wkt";
import { HttpBodySchema } from "#gen/google/api/httpbody_pb.js";
import type { LightContext } from "../call/context.ts";
import type { Binding } from "./binding.ts";
import { type BodyLimits, hasBody, readBody, refuseBody, streamBody } from "./body.ts";
import type { GatewayRequest } from "./exchange.ts";
import { parseRequestJson, patchedFields, readMessage } from "./json/read.ts";
import type { JsonLimits } from "./json/scan.ts";
import { createParameters } from "./parameters.ts";

/** Whether the body is a file that the handler receives as a stream of messages. */
export function isUpload({ method, body }: Binding): boolean {
  const isFile = typeof body === "object" && body.message?.typeName === "google.api.HttpBody";
  return method.methodKind === "client_streaming" && isFile;
}

/** Reads the request message or stream of a call from the path, the query and the body. */
export type ReadRequest = (call: IncomingCall) => Promise<Message | AsyncIterable<Message>>;

export interface IncomingCall {
  readonly request: GatewayRequest;
  /** The segments of the path, percent-encoded. */
  readonly segments: readonly string[];
  readonly query: string;
  /** Its interruption ends the wait for the body. */
  readonly context: LightContext;
}

interface RequestOptions extends BodyLimits {
  readonly limits: JsonLimits;
  /** The types that a google.protobuf.Any may contain. */
  readonly registry: Registry | undefined;
}

/**
 * Prepares the reader of a binding's requests.
 * @throws Error when the body field is neither a message nor one value
 */
export function createReadRequest(binding: Binding, { limits, registry, ...bodyLimits }: RequestOptions): ReadRequest {
  const { method, body } = binding;
  const { inPath, bind } = createParameters(binding, limits.depth);
  const readJson = async ({ request, context }: IncomingCall) =>
    parseRequestJson(await readBody(request, bodyLimits, context), limits);
  if (body === undefined) {
    return async (call) => {
      if (hasBody(call.request)) await refuseBody(call.request, bodyLimits, call.context);
      return bound(create(method.input), call, undefined);
    };
  }
  const target = body === "*" ? method.input : body.message;
  if (body !== "*" && body.fieldKind === "scalar") {
    // The body is a single JSON value: it is read as a message with that field only.
    return async (call) => {
      const parsed = await readJson(call);
      const json = { [body.name]: parsed.json };
      const rounded = parsed.rounded && new Map([[body.name, parsed.rounded]]);
      return bound(readMessage(method.input, json, { registry, setElsewhere: inPath, rounded }), call, json);
    };
  }
  if (target === undefined || (body !== "*" && body.fieldKind !== "message")) {
    throw new Error(`${method.parent.typeName}.${method.name}: the body field must be a message or one value`);
  }
  if (body !== "*" && isUpload(binding)) {
    // The first message has the path, the query and the content type. Each further message has a piece of the file.
    return async (call) => {
      const file = (fields: MessageInitShape<typeof HttpBodySchema>) =>
        ({ [body.localName]: create(HttpBodySchema, fields) }) as MessageInitShape<typeof method.input>;
      const contentType = call.request.headers["content-type"] ?? "";
      const first = bound(create(method.input, file({ contentType })), call, undefined);
      return (async function* () {
        yield first;
        for await (const data of streamBody(call.request, bodyLimits, call.context.signal)) {
          yield create(method.input, file({ data }));
        }
      })();
    };
  }
  if (target.typeName === "google.api.HttpBody") {
    throw new Error(`${method.parent.typeName}.${method.name}: a body that is a file must be a request stream`);
  }
  if (body === "*") {
    return async (call) => {
      const { json, rounded } = await readJson(call);
      return bound(readMessage(target, json, { registry, setElsewhere: inPath, rounded }), call, json);
    };
  }
  const below = inPath.filter(([first]) => first === body).map((path) => path.slice(1));
  const { mask } = binding;
  return async (call) => {
    const { json, rounded } = await readJson(call);
    const message = create(method.input);
    // Null means that the wrapper is absent.
    if (json !== null || !isWrapperDesc(target)) {
      const value = readMessage(target, json, { registry, setElsewhere: below, rounded });
      const reflected = reflect(method.input, message);
      reflected.set(body, reflect(target, value));
      if (mask !== undefined) {
        const paths = patchedFields(target, json);
        reflected.set(mask, reflect(FieldMaskSchema, create(FieldMaskSchema, { paths })));
      }
    }
    return bound(message, call, { [body.name]: json });
  };

  function bound(message: Message, { segments, query }: IncomingCall, json: JsonValue | undefined): Message {
    bind(message, { segments, query, body: json });
    return message;
  }
}
