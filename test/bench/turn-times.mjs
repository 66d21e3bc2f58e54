/**
 * Loaded into a server process before it starts: measures the turns of its event loop from one SIGUSR2 to the next, and then
 * prints the percentiles as a line of JSON. A turn is measured in processor time of the main thread, which other load on the
 * machine changes little. The event loop never sleeps in between. JavaScript: the server runs without a compiler.
 */
import { readFileSync } from "node:fs";

const path = `/proc/self/task/${process.pid}/schedstat`;
let isOn = false;
/** @type {number[]} */
let turnsMs = [];
let startNanos = 0;

process.on("SIGUSR2", () => {
  isOn = !isOn;
  if (isOn) {
    turnsMs = [];
    startNanos = spentNanos();
    setImmediate(endTurn);
    return;
  }
  turnsMs.sort((left, right) => left - right);
  const totalMs = turnsMs.reduce((sum, turn) => sum + turn, 0);
  const [p99, max] = [turnsMs[Math.floor(turnsMs.length * 0.99)], turnsMs.at(-1)];
  console.log(JSON.stringify({ turns: turnsMs.length, totalMs, p99, max }));
});

function endTurn() {
  if (!isOn) return;
  turnsMs.push((spentNanos() - startNanos) / 1e6);
  startNanos = spentNanos();
  setImmediate(endTurn);
}

function spentNanos() {
  return Number(readFileSync(path, "latin1").split(" ", 1)[0]);
}
