import { setImmediate as nextTurn } from "node:timers/promises";
import { afterEach, expect, test } from "vitest";
import { joinLines } from "../../src/app/logger.ts";

const writes: string[] = [];
const before = process.listeners("exit");
afterEach(() => {
  writes.length = 0;
  for (const listener of process.listeners("exit"))
    if (!before.includes(listener)) process.removeListener("exit", listener);
});
const open = () => joinLines({ write: (text) => void writes.push(text) });

test("the lines of one turn of the event loop are one write, in order", async () => {
  const log = open();
  log.write("first\n");
  log.write("second\n");
  expect(writes).toEqual([]);
  await nextTurn();
  expect(writes).toEqual(["first\nsecond\n"]);
  log.write("third\n");
  await nextTurn();
  expect(writes).toEqual(["first\nsecond\n", "third\n"]);
});

test("a write holds whole lines, and no more than a pipe takes as one piece", async () => {
  const log = open();
  const lines = Array.from({ length: 50 }, (_none, index) => `${"x".repeat(300)} ${index}\n`);
  for (const line of lines) log.write(line);
  await nextTurn();
  expect(writes.join("")).toBe(lines.join(""));
  expect(writes.length).toBeLessThan(6);
  for (const text of writes) {
    expect(text.length).toBeLessThanOrEqual(4096);
    expect(text.endsWith("\n")).toBe(true);
  }
});

test("a line that is longer than that is one write", async () => {
  const log = open();
  log.write("short\n");
  log.write(`${"x".repeat(5000)}\n`);
  await nextTurn();
  expect(writes.map((text) => text.length)).toEqual([6, 5001]);
});

test("the lines of a turn in which the process exits are written", () => {
  const log = open();
  log.write("server stopped\n");
  const [flush] = process.listeners("exit").filter((listener) => !before.includes(listener));
  flush?.call(process, 0);
  expect(writes).toEqual(["server stopped\n"]);
});
