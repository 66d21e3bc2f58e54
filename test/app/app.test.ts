import { expect, test } from "vitest";
import { startTestApp } from "../support/app.ts";

test("the app puts an IPv6 host in brackets, and its URL works", async () => {
  // startTestApp logs in through the URL, which shows that the URL works.
  const app = await startTestApp({ HOST: "::1" });
  expect(app.url).toMatch(/^http:\/\/\[::1\]:\d+$/);
  await app.stop();
});
