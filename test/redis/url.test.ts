import { expect, test } from "vitest";
import { parseRedisUrl } from "../../src/redis/url.ts";

const defaults = { kind: "single", username: "", password: "", hasTls: false, path: "" };
const at = (host: string, port = 6379) => ({ host, port });

test.each<[string, object]>([
  ["redis://one", { ...defaults, hosts: [at("one")] }],
  ["redis://127.0.0.1:7000/3", { ...defaults, hosts: [at("127.0.0.1", 7000)], path: "3" }],
  ["rediss://:p%40ss@[::1]:7000", { ...defaults, hasTls: true, password: "p@ss", hosts: [at("::1", 7000)] }],
  ["redis://anna:secret@one", { ...defaults, username: "anna", password: "secret", hosts: [at("one")] }],
  ["redis+cluster://one,two:7001", { ...defaults, kind: "cluster", hosts: [at("one"), at("two", 7001)] }],
  [
    "rediss+sentinel://s1,s2/main",
    { ...defaults, kind: "sentinel", hasTls: true, path: "main", hosts: [at("s1", 26379), at("s2", 26379)] },
  ],
  [
    "redis+sentinel://s1/my-master.eu_1",
    { ...defaults, kind: "sentinel", path: "my-master.eu_1", hosts: [at("s1", 26379)] },
  ],
  ["redis://:100%@one", { ...defaults, password: "100%", hosts: [at("one")] }],
  ["redis://:50%25off@one", { ...defaults, password: "50%off", hosts: [at("one")] }],
])("parses the URL %s", (url, address) => {
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
  "redis+sentinel://one/my master",
  "redis://one/-1",
  "redis://one:65536",
])("returns undefined for the invalid URL %s", (url) => {
  expect(parseRedisUrl(url)).toBeUndefined();
});
