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
const bindingsOfRpc = (name: string) =>
  bindings.filter(({ method }) => method.name === name).map((binding) => summary(binding));

test("creates a binding for each rule of an annotation", () => {
  expect(bindingsOfRpc("Single")).toEqual([
    ["GET /single/{text}", undefined, undefined, 200],
    ["GET /alias/{nested.text}", undefined, undefined, 200],
    ["POST /single/{text}", "*", undefined, 200],
    ["PUT /single/{text}", "nested", undefined, 200],
  ]);
});

test("uses the declared status, or derives it from the response message", () => {
  expect(bindingsOfRpc("Required")).toEqual([["POST /strict", "*", undefined, 201]]);
  expect(bindingsOfRpc("Nothing")).toEqual([["DELETE /nothing", undefined, undefined, 204]]);
});

test("binds a response field and a custom method, but no RPC without an annotation", () => {
  expect(bindingsOfRpc("Inner")).toEqual([["GET /inner", undefined, "nested", 200]]);
  expect(bindingsOfRpc("Custom")).toEqual([["PURGE /custom", undefined, undefined, 200]]);
  expect(bindingsOfRpc("Unbound")).toEqual([]);
});

test.each([
  ["UnknownVariable", /has no field nothing/],
  ["MessageVariable", /path variable nested must be a single value/],
  ["RepeatedVariable", /path variable texts must be a single value/],
  ["ThroughList", /nests.text must go through messages only/],
  ["BelowWrapper", /maybe.value must not go through a well-known type/],
  ["BelowTimestamp", /time.seconds must not go through a well-known type/],
  ["Archive", /the method ARCHIVE is not supported/],
  ["Connecting", /the method CONNECT is not supported/],
  ["Shouting", /the method purge is not supported/],
  ["TwiceNamed", /must not name a field twice/],
  ["UnknownBody", /has no field nothing/],
  ["ReadingBody", /GET must not have a body/],
  ["UnknownPart", /has no field nothing/],
  ["Kindless", /a custom pattern must have a kind/],
  ["Pathless", /a method and a path must be set/],
  ["BadTemplate", /path template \/x\/: .* at position 3/],
  ["BindingsInBindings", /additional_bindings must not be nested/],
])("refuses the annotation of the service %s", (name, message) => {
  expect(() => bindingsOf(serviceOf(name))).toThrow(message);
});

test.each([
  ["Conflicting", /matches the same requests as/],
  ["Uploading", /a request stream with a binding must be a file/],
  ["ListBody", /the body field must be a message or one value/],
  ["FileBody", /a body that is a file must be a request stream/],
  ["Pageless", /must have exactly one list/],
  ["ScalarPages", /must have exactly one list, and it must be of messages/],
  ["Formatless", /a list has no format text\/plain/],
  ["PartOfStream", /response_body of a stream must be a file/],
])("does not create a gateway for the service %s", (name, message) => {
  expect(() => createFixtureGateway(name)).toThrow(message);
});

test("does not create a gateway for a service without an implementation", () => {
  const query = undefined as unknown as () => Promise<unknown>;
  expect(() => createFixtureGateway("EchoService", { query })).toThrow(
    /EchoService.Query has a binding but is not implemented/,
  );
});
