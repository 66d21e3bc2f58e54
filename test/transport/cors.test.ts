import { once } from "node:events";
import { type IncomingHttpHeaders, type IncomingMessage, request } from "node:http";
import { connect } from "node:http2";
import { text } from "node:stream/consumers";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { startTestApp, type TestApp } from "../support/app.ts";

interface Asked {
  readonly method?: string;
  readonly path: string;
  readonly headers?: Record<string, string>;
}
/** The headers, and the status. */
type Answered = Readonly<Record<string, string | string[] | number | undefined>>;
type Send = (url: string, asked: Asked) => Promise<Answered>;

const overHttp1: Send = async (url, { method = "GET", path, headers = {} }) => {
  const [response] = (await once(request(url + path, { method, headers }).end(), "response")) as [IncomingMessage];
  await text(response);
  return { ...response.headers, status: response.statusCode ?? 0 };
};
const overHttp2: Send = async (url, { method = "GET", path, headers = {} }) => {
  const session = connect(url);
  const stream = session.request({ ":method": method, ":path": path, ...headers }, { endStream: true });
  const [answered] = (await once(stream, "response")) as [IncomingHttpHeaders & { ":status": number }];
  await text(stream);
  session.close();
  return { ...answered, status: answered[":status"] };
};
const versions: [version: string, send: Send][] = [
  ["HTTP/1.1", overHttp1],
  ["HTTP/2", overHttp2],
];

const origin = "https://app.example.com";
const stranger = "https://other.example.com";
const preflight = (path: string, from: string): Asked => ({
  method: "OPTIONS",
  path,
  headers: {
    origin: from,
    "access-control-request-method": "POST",
    "access-control-request-headers": "authorization,content-type",
  },
});
const grantsOf = (answered: Answered) => Object.keys(answered).filter((name) => name.startsWith("access-control-"));
const namesIn = (header: unknown) => String(header).toLowerCase().split(", ");

describe("CORS_ORIGINS with two origins", () => {
  let app: TestApp;
  beforeAll(async () => {
    app = await startTestApp({ CORS_ORIGINS: `${origin},http://localhost:5173` });
  });
  afterAll(() => app.stop());

  describe.each(versions)("over %s", (_version, send) => {
    test.each(["/admin/users/anna", "/tollgate.v1.QuotaService/AcquireQuota", "/nowhere", "/readyz"])(
      "the preflight of %s needs no token",
      async (path) => {
        const answered = await send(app.url, preflight(path, origin));
        expect(answered).toMatchObject({
          status: 204,
          vary: "Origin",
          "access-control-allow-origin": origin,
          "access-control-allow-methods": "GET, HEAD, POST, PUT, PATCH, DELETE",
          "access-control-max-age": "7200",
        });
        expect(namesIn(answered["access-control-allow-headers"])).toEqual(
          expect.arrayContaining([
            "authorization",
            "content-type",
            "connect-protocol-version",
            "connect-timeout-ms",
            "x-grpc-web",
            "x-user-agent",
            "grpc-timeout",
            "tracecode",
            "if-match",
            "range",
          ]),
        );
        expect(grantsOf(answered)).not.toContain("access-control-allow-credentials");
      },
    );

    test("the preflight of another origin gets no permission", async () => {
      const answered = await send(app.url, preflight("/admin/users", stranger));
      expect([answered.status, answered.vary, grantsOf(answered)]).toEqual([204, "Origin", []]);
    });

    test.each([
      ["a success", "/admin/system/version", 200],
      ["a missing token", "/admin/users", 401],
      ["an unknown path", "/nowhere", 404],
      ["a probe", "/livez", 200],
    ])("the page reads %s and its headers", async (_what, path, status) => {
      const answered = await send(app.url, { path, headers: { origin } });
      expect(answered).toMatchObject({ status, vary: "Origin", "access-control-allow-origin": origin });
      expect(namesIn(answered["access-control-expose-headers"])).toEqual(
        expect.arrayContaining([
          "grpc-status",
          "grpc-message",
          "grpc-status-details-bin",
          "tracecode",
          "content-disposition",
          "etag",
          "retry-after",
        ]),
      );
      expect(grantsOf(answered)).not.toContain("access-control-allow-credentials");
    });

    test.each([
      ["another origin", { origin: stranger }],
      ["an origin that only begins like an allowed one", { origin: `${origin}.example.net` }],
      ["no origin", {}],
    ])("%s gets no permission, and caches keep the origins apart", async (_what, headers) => {
      const answered = await send(app.url, { path: "/admin/system/version", headers });
      expect([answered.status, answered.vary, grantsOf(answered)]).toEqual([200, "Origin", []]);
    });

    test("OPTIONS without a preflight says which methods a path has", async () => {
      const answered = await send(app.url, { method: "OPTIONS", path: "/admin/users", headers: { origin } });
      expect([answered.status, answered.allow]).toEqual([204, expect.stringContaining("GET")]);
    });
  });
});

test.each(versions)("CORS_ORIGINS=* allows every origin, without credentials, over %s", async (_version, send) => {
  const app = await startTestApp({ CORS_ORIGINS: "*" });
  for (const asked of [preflight("/admin/users", stranger), { path: "/livez", headers: { origin: stranger } }]) {
    const answered = await send(app.url, asked);
    expect(answered["access-control-allow-origin"]).toBe("*");
    expect(grantsOf(answered)).not.toContain("access-control-allow-credentials");
  }
  await app.stop();
});

test.each(versions)("without CORS_ORIGINS no origin gets a permission, over %s", async (_version, send) => {
  const app = await startTestApp();
  for (const asked of [preflight("/admin/users", origin), { path: "/livez", headers: { origin } }]) {
    const answered = await send(app.url, asked);
    expect([grantsOf(answered), answered.vary]).toEqual([[], undefined]);
  }
  await app.stop();
});
