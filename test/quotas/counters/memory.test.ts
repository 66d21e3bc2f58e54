import { describe } from "vitest";
import { createMemoryEngine } from "../../../src/quotas/counters/memory.ts";
import { remember, testConformance } from "./conformance.ts";

describe("the engine in this process", () => {
  let nowMs = 0;
  const engine = createMemoryEngine({ now: () => nowMs, remember });
  testConformance(() => ({
    engine,
    setTime: (time) => {
      nowMs = time;
    },
  }));
});
