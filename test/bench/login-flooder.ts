/**
 * Keeps logins in flight, in a separate process so that its cost does not count as the server's. Opens its
 * connections, prints "ready", and floods from the first line of its input on. Prints the number of responses so far, by
 * status, as a line of JSON every 100 ms.
 */
import { connect } from "node:http2";
import { setPriority } from "node:os";

const [url = "", inFlight = "8000", shape = "one address"] = process.argv.slice(2);
const sessionCount = 80;

// The flood runs at the lowest priority: an attacker has a separate machine.
setPriority(19);
const sessions = Array.from({ length: sessionCount }, () => connect(url).on("error", () => undefined));
const answers: Record<string, number> = {};
let sent = 0;

function login(session: (typeof sessions)[number]): Promise<number | string> {
  return new Promise((resolve) => {
    sent += 1;
    const stream = session.request({
      ":method": "POST",
      ":path": "/admin/token/generation",
      "content-type": "application/json",
      // When the server trusts a proxy, each login comes from a different network.
      ...(shape !== "one address" && {
        "x-forwarded-for": `10.${(sent >> 16) & 255}.${(sent >> 8) & 255}.${sent & 255}`,
      }),
    });
    let status: number | string = "reset";
    stream.on("response", (headers) => (status = Number(headers[":status"])));
    stream.on("error", () => undefined).on("close", () => resolve(status));
    stream.resume();
    stream.end(JSON.stringify({ username: "anna", password: "wrong password" }));
  });
}

async function keepOneInFlight(session: (typeof sessions)[number]): Promise<void> {
  while (!session.destroyed) {
    const status = await login(session);
    answers[status] = (answers[status] ?? 0) + 1;
  }
}

await Promise.all(sessions.map((session) => new Promise((done) => session.once("remoteSettings", done))));
console.log("ready");
process.stdin.once("data", () => {
  for (let index = 0; index < Number(inFlight); index += 1) {
    const session = sessions[index % sessionCount];
    if (session !== undefined) void keepOneInFlight(session);
  }
  setInterval(() => console.log(JSON.stringify({ sent, answers })), 100);
});
