import { expect, test } from "vitest";
import { readOrigin } from "../../src/pipeline/client-origin.ts";

const peer = "10.0.0.1";

test.each<[string | string[], number, string]>([
  ["203.0.113.8", 1, "203.0.113.8"],
  ["203.0.113.8:50001", 1, "203.0.113.8"],
  ["[2001:db8::1]:443", 1, "2001:db8::1"],
  ["[2001:db8::1]", 1, "2001:db8::1"],
  ["2001:DB8:0::1", 1, "2001:db8::1"],
  ['"203.0.113.8"', 1, "203.0.113.8"],
  ['"[2001:db8::1]:443"', 1, "2001:db8::1"],
  ["203.0.113.8,", 1, "203.0.113.8"],
  ["203.0.113.8, ,", 1, "203.0.113.8"],
  ["::ffff:203.0.113.8", 1, "203.0.113.8"],
  ["198.51.100.1, 203.0.113.8:1, 192.0.2.1", 2, "203.0.113.8"],
  [["198.51.100.1", "203.0.113.8"], 1, "203.0.113.8"],
  ["203.0.113.8", 2, peer],
  ["unknown", 1, peer],
  ["1.2.3", 1, peer],
  ["0x7f.1", 1, peer],
  ["2001:db8::1:443:x", 1, peer],
  ["", 1, peer],
  ["203.0.113.8", 0, peer],
])("X-Forwarded-For %j behind %i proxies comes from %s", (header, proxies, address) => {
  const headers = { "x-forwarded-for": header as string };
  expect(readOrigin(headers, peer, proxies).address).toBe(address);
});
