import { spawnSync } from "node:child_process";
import { once } from "node:events";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { create, toBinary } from "@bufbuild/protobuf";
import { encodeEnvelope } from "@connectrpc/connect/protocol";
import { type Browser, chromium, type Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { ReadUserRequestSchema } from "#gen/tollgate/v1/user_pb.js";
import { startTestApp, type TestApp } from "../support/app.ts";

const program = "/usr/bin/chromium";
const noBrowser = spawnSync(program, ["--version"]).error === undefined ? "" : "skipped: install chromium";
const quiet = ["--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"];
const readUser = "/tollgate.v1.UserService/ReadUser";

/** The response as a page of another origin sees it. */
interface Seen {
  readonly status: number;
  readonly text: string;
  readonly headers: Record<string, string>;
}

async function startPageServer(): Promise<Server> {
  const pages = createServer((_request, response) => {
    response.setHeader("content-type", "text/html");
    response.end("<!doctype html><title>a page of another origin</title>");
  });
  await once(pages.listen(0, "127.0.0.1"), "listening");
  return pages;
}

const originOf = (pages: Server) => `http://127.0.0.1:${(pages.address() as AddressInfo).port}`;

/** Calls from the page, as the browser lets it. */
function callFrom(page: Page, url: string, init: RequestInit & { readonly bytes?: number[] }): Promise<Seen> {
  return page.evaluate(
    async ([target, { bytes, ...rest }]) => {
      const response = await fetch(target, bytes === undefined ? rest : { ...rest, body: new Uint8Array(bytes) });
      return { status: response.status, text: await response.text(), headers: Object.fromEntries(response.headers) };
    },
    [url, init] as const,
  );
}

describe.skipIf(noBrowser !== "")(`a page of another origin in a browser ${noBrowser}`, () => {
  let app: TestApp;
  let browser: Browser;
  const [allowed, other] = [[] as Server[], [] as Server[]];
  beforeAll(async () => {
    allowed.push(await startPageServer());
    other.push(await startPageServer());
    app = await startTestApp({ CORS_ORIGINS: allowed.map(originOf).join() });
    browser = await chromium.launch({ executablePath: program, args: ["--no-sandbox", ...quiet] });
  });
  afterAll(async () => {
    await browser.close();
    await app.stop();
    for (const pages of [...allowed, ...other]) pages.close();
  });

  const open = async ([pages]: Server[]): Promise<Page> => {
    const page = await browser.newPage();
    await page.goto(originOf(pages as Server));
    return page;
  };
  const authorization = () => `Bearer ${app.admin}`;
  const grpcWeb = (username: string) => {
    const message = toBinary(ReadUserRequestSchema, create(ReadUserRequestSchema, { username }));
    return {
      method: "POST",
      headers: {
        "content-type": "application/grpc-web+proto",
        "x-grpc-web": "1",
        "grpc-timeout": "9000m",
        authorization: authorization(),
      },
      bytes: [...encodeEnvelope(0, message)],
    };
  };

  test("calls with Connect, and reads the tracecode", async () => {
    const page = await open(allowed);
    const seen = await callFrom(page, app.url + readUser, {
      method: "POST",
      headers: {
        "content-type": "application/json",
        "connect-protocol-version": "1",
        "connect-timeout-ms": "9000",
        authorization: authorization(),
      },
      body: '{"username":"admin"}',
    });
    expect([seen.status, JSON.parse(seen.text).user.username]).toEqual([200, "admin"]);
    expect(seen.headers.tracecode).toMatch(/^[0-9a-f-]{36}$/);
  });

  test("calls with gRPC-Web, and reads the status and the details of a refusal", async () => {
    const page = await open(allowed);
    const found = await callFrom(page, app.url + readUser, grpcWeb("admin"));
    expect([found.status, found.text]).toEqual([200, expect.stringContaining("grpc-status: 0")]);
    const missing = await callFrom(page, app.url + readUser, grpcWeb("missing"));
    const status = missing.headers["grpc-status"] ?? /grpc-status: (\d+)/.exec(missing.text)?.[1];
    expect([missing.status, status]).toEqual([200, "5"]);
  });

  test("calls with HTTP/JSON, and changes something", async () => {
    const page = await open(allowed);
    const seen = await callFrom(page, `${app.url}/admin/companies/administration`, {
      method: "PATCH",
      headers: { "content-type": "application/json", authorization: authorization() },
      body: '{"detail":"changed by a page"}',
    });
    expect([seen.status, JSON.parse(seen.text).detail]).toEqual([200, "changed by a page"]);
  });

  test("cannot call if its origin is not in the setting", async () => {
    const page = await open(other);
    await expect(callFrom(page, `${app.url}/admin/system/version`, {})).rejects.toThrow(/Failed to fetch/);
    await expect(callFrom(page, app.url + readUser, grpcWeb("admin"))).rejects.toThrow(/Failed to fetch/);
  });
});
