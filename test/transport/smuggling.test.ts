import { type IncomingMessage } from "node:http";
import { connect } from "node:net";
import { text } from "node:stream/consumers";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { badRequest, everything, openListener, stopAll } from "../support/listener.ts";

/**
 * Request smuggling: a proxy and the server must not disagree about where a request ends. Node's parser is the guard for all
 * rows but the hosts, which test/transport/listener.test.ts covers: with `insecureHTTPParser` the server answers the
 * smuggled request of most refused rows.
 */

const served: string[] = [];
let port: number;

beforeAll(async () => {
  ({ port } = await openListener({
    async onRequest(request, response) {
      const body = await text(request as IncomingMessage).catch(() => "cut");
      served.push(`${request.method} ${request.url} ${body}`);
      response.end("served");
    },
  }));
});
afterAll(stopAll);
beforeEach(() => served.splice(0));

const smuggled = "GET /smuggled HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
const post = "POST /first HTTP/1.1\r\nhost: x\r\n";
const chunked = `${post}transfer-encoding: chunked\r\n\r\n`;
const end = "0\r\n\r\n";

test.each([
  {
    says: "Content-Length before Transfer-Encoding",
    bytes: `${post}content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n${end}`,
  },
  {
    says: "Transfer-Encoding before Content-Length",
    bytes: `${post}transfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n${end}`,
  },
  { says: "two lengths", bytes: `${post}content-length: 0\r\ncontent-length: ${smuggled.length}\r\n\r\n` },
  { says: "the same length twice", bytes: `${post}content-length: 2\r\ncontent-length: 2\r\n\r\n{}` },
  { says: "a list of lengths", bytes: `${post}content-length: 0, ${smuggled.length}\r\n\r\n` },
  ...["+2", "-2", "0x2", "2 2", "2.0", "", "18446744073709551618"].map((length) => ({
    says: `the length "${length}"`,
    bytes: `${post}content-length: ${length}\r\n\r\n{}`,
  })),
  ...["xchunked", "identity", '"chunked"', "chunked, identity", "\u000bchunked", "chunked\u0000"].map((coding) => ({
    says: `the transfer coding ${JSON.stringify(coding)}`,
    bytes: `${post}transfer-encoding: ${coding}\r\n\r\n${end}`,
  })),
  {
    says: "two transfer codings on two lines",
    bytes: `${post}transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n\r\n${end}`,
  },
  { says: "chunks in HTTP/1.0", bytes: `POST /first HTTP/1.0\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n${end}` },
  { says: "a space before the colon of the length", bytes: `${post}content-length : 2\r\n\r\n{}` },
  { says: "a space before the colon of the coding", bytes: `${post}transfer-encoding : chunked\r\n\r\n${end}` },
  { says: "a space within a name", bytes: `${post}content length: 2\r\n\r\n{}` },
  { says: "a line without a colon", bytes: `${post}content-length\r\n\r\n{}` },
  { says: "a folded line with a coding", bytes: `${post}x-a: b\r\n transfer-encoding: chunked\r\n\r\n${end}` },
  { says: "a folded coding", bytes: `${post}transfer-encoding:\r\n chunked\r\n\r\n${end}` },
  { says: "a folded length", bytes: `${post}content-length:\r\n\t2\r\n\r\n{}` },
  { says: "a fold before the first header", bytes: "POST /first HTTP/1.1\r\n x: y\r\nhost: x\r\n\r\n" },
  { says: "bare LF after every line", bytes: "POST /first HTTP/1.1\nhost: x\ncontent-length: 2\n\n{}" },
  { says: "bare LF before a coding", bytes: `${post}x-a: b\ntransfer-encoding: chunked\r\n\r\n${end}` },
  { says: "bare LF at the end of the headers", bytes: `${post}content-length: 2\r\n\n{}` },
  { says: "bare CR before a coding", bytes: `${post}x-a: b\rtransfer-encoding: chunked\r\n\r\n${end}` },
  { says: "NUL in a header", bytes: `${post}x-a: b\u0000c\r\ncontent-length: 2\r\n\r\n{}` },
  ...["2\n", "+2\r\n", "-2\r\n", "0x2\r\n", " 2\r\n", "2 \r\n", "10000000000000002\r\n", "\r\n"].map((size) => ({
    says: `the size of a chunk ${JSON.stringify(size)}`,
    bytes: `${chunked}${size}{}\r\n${end}`,
  })),
  { says: "bare LF after a chunk", bytes: `${chunked}2\r\n{}\n${end}` },
  { says: "bare LF after the last chunk", bytes: `${chunked}2\r\n{}\r\n0\n\n` },
  { says: "bytes after a chunk", bytes: `${chunked}2\r\n{}xx${end}` },
  { says: "bare LF after a chunk extension", bytes: `${chunked}2;a=b\n{}\r\n${end}` },
  { says: "a line break in a chunk extension", bytes: `${chunked}2;a="x\r\n"\r\n{}\r\n${end}` },
  { says: "a control character in a chunk extension", bytes: `${chunked}2;\u0001\r\n{}\r\n${end}` },
  { says: "a length in the trailers", bytes: `${chunked}0\r\ncontent-length: 5\r\n\r\n` },
  { says: "a coding in the trailers", bytes: `${chunked}0\r\ntransfer-encoding: chunked\r\n\r\n` },
])("$says is refused, the connection ends, and what follows is no request", async ({ bytes }) => {
  const answer = await send(`${bytes}${smuggled}`);
  expect(answer).toMatch(/^HTTP\/1\.1 400 /);
  expect(answer.endsWith(badRequest)).toBe(true);
  expect(answer.match(/HTTP\/1/g)).toHaveLength(1);
  expect(served.filter((request) => request.includes("smuggled"))).toEqual([]);
  await expectService();
});

test.each([
  { says: "chunk extensions", bytes: `${chunked}2;a=b;c\r\n{}\r\n0;d\r\n\r\n`, first: "POST /first {}" },
  { says: "trailers", bytes: `${chunked}2\r\n{}\r\n0\r\nx-a: b\r\n\r\n`, first: "POST /first {}" },
  {
    says: "a coding in capitals",
    bytes: `${post}Transfer-Encoding: Chunked\r\n\r\n2\r\n{}\r\n${end}`,
    first: "POST /first {}",
  },
  {
    says: "a GET whose body looks like a request",
    bytes: `GET /first HTTP/1.1\r\nhost: x\r\ncontent-length: ${smuggled.length}\r\n\r\n${smuggled}`,
    first: `GET /first ${smuggled}`,
  },
])("$says end where RFC 9112 says", async ({ bytes, first }) => {
  const answer = await send(`${bytes}GET /next HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n`);
  expect(answer.match(/HTTP\/1\.1 200 OK/g)).toHaveLength(2);
  // The second request may finish first.
  expect(served.toSorted()).toEqual([first, "GET /next "].toSorted());
});

test("the extensions of a chunk have a limit, and the connection ends at it", async () => {
  await send(`${chunked}1;${"a".repeat(20_000)}\r\n \r\n${end}${smuggled}`);
  expect(served).toEqual(["POST /first cut"]);
  await expectService();
});

/** Sends the bytes and returns everything that the server sends before it closes the connection. */
function send(bytes: string): Promise<string> {
  const socket = connect(port, "127.0.0.1");
  socket.write(bytes, "latin1");
  // Bytes that the server has not read turn its close into a reset.
  return everything(socket).catch(() => "");
}

async function expectService(): Promise<void> {
  const response = await fetch(`http://127.0.0.1:${port}/other`);
  expect(await response.text()).toBe("served");
}
