import { expect, test } from "vitest";
import { type Binding, bindingsOf } from "../../src/gateway/binding.ts";
import { createFixtureGateway, serviceOf } from "./fixture.ts";

const bindings = bindingsOf(serviceOf("EchoService"));
const summary = ({ httpMethod, pattern, body, responseBody, status }: Binding) => [
  `${httpMethod} ${pattern}`,
  typeof body === "object" ? body.name : body,
  responseBody?.name,
  status,
];
const of = (name: string) => bindings.filter(({ method }) => method.name === name).map((one) => summary(one));

test("each rule of an annotation is a binding of its own", () => {
  expect(of("Single")).toEqual([
    ["GET /single/{text}", undefined, undefined, 200],
    ["GET /alias/{nested.text}", undefined, undefined, 200],
    ["POST /single/{text}", "*", undefined, 200],
    ["PUT /single/{text}", "nested", undefined, 200],
  ]);
});

test("the status is the one that is declared, or follows from the answer", () => {
  expect(of("Required")).toEqual([["POST /strict", "*", undefined, 201]]);
  expect(of("Nothing")).toEqual([["DELETE /nothing", undefined, undefined, 204]]);
});

test("a part of the answer and a method of another kind are bound, and nothing without an annotation", () => {
  expect(of("Inner")).toEqual([["GET /inner", undefined, "nested", 200]]);
  expect(of("Custom")).toEqual([["PURGE /custom", undefined, undefined, 200]]);
  expect(of("Unbound")).toEqual([]);
});

test.each([
  ["UnknownVariable", /has no field nothing/],
  ["MessageVariable", /path variable nested is no single value/],
  ["RepeatedVariable", /path variable texts is no single value/],
  ["ThroughList", /nests.text goes through a field that is no message/],
  ["BelowWrapper", /maybe.value goes through a field whose JSON is no object of its fields/],
  ["BelowTimestamp", /time.seconds goes through a field whose JSON is no object of its fields/],
  ["Archive", /no HTTP server of Node reads the method ARCHIVE/],
  ["Connecting", /no HTTP server of Node reads the method CONNECT/],
  ["Shouting", /no HTTP server of Node reads the method purge/],
  ["TwiceNamed", /names a field twice/],
  ["UnknownBody", /has no field nothing/],
  ["ReadingBody", /GET has no body/],
  ["UnknownPart", /has no field nothing/],
  ["Kindless", /a custom pattern without a kind/],
  ["Pathless", /no method and path/],
  ["BadTemplate", /path template \/x\/: .* at position 3/],
  ["BindingsInBindings", /additional_bindings within additional_bindings/],
])("the annotation of the service %s is refused", (name, message) => {
  expect(() => bindingsOf(serviceOf(name))).toThrow(message);
});

test.each([
  ["Conflicting", /matches the same requests as/],
  ["Uploading", /a stream of requests that is no file cannot be bound/],
  ["ListBody", /the body field is neither a message nor one value/],
  ["FileBody", /a body that is a file cannot be bound/],
  ["Pageless", /needs exactly one list/],
  ["ScalarPages", /needs exactly one list in them, of messages/],
  ["PartOfStream", /response_body of a stream that is no file/],
])("a gateway of the service %s is not built", (name, message) => {
  expect(() => createFixtureGateway(name)).toThrow(message);
});

test("a gateway is not built of a service that is not implemented", () => {
  const query = undefined as unknown as () => Promise<unknown>;
  expect(() => createFixtureGateway("EchoService", { query })).toThrow(
    /EchoService.Query is bound and not implemented/,
  );
});
