import { expect, test } from "vitest";
import { startTestApp } from "../support/app.ts";

test("an IPv6 address is printed in brackets, and the URL works", async () => {
  // The app logs in by its URL.
  const app = await startTestApp({ HOST: "::1" });
  expect(app.url).toMatch(/^http:\/\/\[::1\]:\d+$/);
  await app.stop();
});
