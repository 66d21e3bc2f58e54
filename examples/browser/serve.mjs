// Serves this folder, and passes calls of the API on to Tollgate, so that both have one address. In production a proxy
// such as nginx does it.
// Usage: [PORT=...] node serve.mjs URL
import { readFile } from "node:fs/promises";
import { createServer, request } from "node:http";

const target = new URL(process.argv[2] ?? "http://127.0.0.1:8080");
const files = { "/": ["index.html", "text/html"], "/planner.js": ["planner.js", "text/javascript"] };

const server = createServer(async (incoming, outgoing) => {
  const file = files[incoming.url];
  if (file !== undefined) {
    const [name, type] = file;
    outgoing.writeHead(200, { "content-type": `${type}; charset=utf-8` });
    outgoing.end(await readFile(new URL(name, import.meta.url)));
    return;
  }
  const { method, url: path, headers } = incoming;
  const { hostname, port } = target;
  const passedOn = request({ hostname, port, method, path, headers }, (answer) => {
    outgoing.writeHead(answer.statusCode, answer.headers);
    answer.pipe(outgoing);
  });
  passedOn.on("error", () => outgoing.writeHead(502).end());
  incoming.pipe(passedOn);
});
server.listen(Number(process.env.PORT ?? 8081), "127.0.0.1", () => {
  console.log(`open http://127.0.0.1:${server.address().port}/`);
});
