import { describe } from "vitest";
import { createMemoryEngine } from "../../../src/quotas/counters/memory.ts";
import { conforms, remember } from "./conformance.ts";

describe("the engine in this process", () => {
  let nowMs = 0;
  const engine = createMemoryEngine({ now: () => nowMs, remember });
  conforms(() => ({
    engine,
    setTime: (time) => {
      nowMs = time;
    },
  }));
});
