import { expect, test } from "vitest";
import { parseRedisUrl } from "../../src/redis/url.ts";

const nothing = { kind: "single", username: "", password: "", hasTls: false, path: "" };
const at = (host: string, port = 6379) => ({ host, port });

test.each<[string, object]>([
  ["redis://one", { ...nothing, hosts: [at("one")] }],
  ["redis://127.0.0.1:7000/3", { ...nothing, hosts: [at("127.0.0.1", 7000)], path: "3" }],
  ["rediss://:p%40ss@[::1]:7000", { ...nothing, hasTls: true, password: "p@ss", hosts: [at("::1", 7000)] }],
  ["redis://anna:secret@one", { ...nothing, username: "anna", password: "secret", hosts: [at("one")] }],
  ["redis+cluster://one,two:7001", { ...nothing, kind: "cluster", hosts: [at("one"), at("two", 7001)] }],
  [
    "rediss+sentinel://s1,s2/main",
    { ...nothing, kind: "sentinel", hasTls: true, path: "main", hosts: [at("s1", 26379), at("s2", 26379)] },
  ],
])("reads %s", (url, address) => {
  expect(parseRedisUrl(url)).toEqual(address);
});

test.each([
  "one",
  "http://one",
  "redis://",
  "redis://one,two",
  "redis://one/main",
  "redis://one:port",
  "redis://::1",
  "redis+cluster://one/3",
  "redis+cluster://one,",
  "redis+sentinel://one",
])("refuses %s", (url) => {
  expect(parseRedisUrl(url)).toBeUndefined();
});
