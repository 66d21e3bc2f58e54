/**
 * Loaded into a server process before it starts: measures the turns of its event loop from one SIGUSR2 to the next, and then
 * prints the percentiles as a line of JSON. A turn is measured in processor time of the main thread, which other load on the
 * machine changes little. The event loop never sleeps in between.
 */
import { readFileSync } from "node:fs";
import { quantile } from "./stand.ts";

const path = `/proc/self/task/${process.pid}/schedstat`;
let isOn = false;
let turnsMs: number[] = [];
let startNanos = 0;

process.on("SIGUSR2", () => {
  isOn = !isOn;
  if (isOn) {
    turnsMs = [];
    startNanos = spentNanos();
    setImmediate(endTurn);
    return;
  }
  const totalMs = turnsMs.reduce((sum, turn) => sum + turn, 0);
  const [p99, max] = [quantile(turnsMs, 0.99), Math.max(...turnsMs)];
  console.log(JSON.stringify({ turns: turnsMs.length, totalMs, p99, max }));
});

function endTurn(): void {
  if (!isOn) return;
  turnsMs.push((spentNanos() - startNanos) / 1e6);
  startNanos = spentNanos();
  setImmediate(endTurn);
}

function spentNanos(): number {
  return Number(readFileSync(path, "latin1").split(" ", 1)[0]);
}
