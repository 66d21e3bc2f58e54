import { expect, test, vi } from "vitest";
import { createRouter } from "../../src/gateway/router.ts";
import { parseTemplate } from "../../src/gateway/template.ts";

const route = (httpMethod: string, pattern: string) => ({ httpMethod, pattern, template: parseTemplate(pattern) });
const routerOf = (...routes: string[]) =>
  createRouter(routes.map((text) => text.split(" ")).map(([method = "", pattern = ""]) => route(method, pattern)));

function patternOf(router: ReturnType<typeof routerOf>, httpMethod: string, path: string): string {
  const match = router.match(httpMethod, path);
  return match.kind === "route" ? match.route.pattern : match.kind === "method" ? match.allow.join(" ") : "none";
}

test("a literal has precedence over *, and * over **", () => {
  const router = routerOf("GET /a/b", "GET /a/{x}", "GET /a/{x=**}", "GET /{x=**}");
  expect(patternOf(router, "GET", "/a/b")).toBe("/a/b");
  expect(patternOf(router, "GET", "/a/c")).toBe("/a/{x}");
  expect(patternOf(router, "GET", "/a/c/d")).toBe("/a/{x=**}");
  expect(patternOf(router, "GET", "/b")).toBe("/{x=**}");
});

test("a lookup without a match backtracks to the next best branch", () => {
  const router = routerOf("GET /a/b/c", "GET /a/{x}/d", "GET /{x}/b/e");
  expect(patternOf(router, "GET", "/a/b/d")).toBe("/a/{x}/d");
  expect(patternOf(router, "GET", "/a/b/e")).toBe("/{x}/b/e");
  expect(patternOf(router, "GET", "/a/b/f")).toBe("none");
});

test("a more general route serves a method that the more specific one lacks", () => {
  const router = routerOf("POST /a/b", "GET /a/{x}");
  expect(patternOf(router, "GET", "/a/b")).toBe("/a/{x}");
  expect(patternOf(router, "DELETE", "/a/b")).toBe("GET HEAD OPTIONS POST");
});

test("the method * serves every method that no other route of the path has", () => {
  const router = routerOf("* /a", "GET /a", "POST /a/b");
  expect(router.match("PATCH", "/a")).toMatchObject({ kind: "route", route: { httpMethod: "*" } });
  expect(router.match("HEAD", "/a")).toMatchObject({ kind: "route", route: { httpMethod: "GET" } });
  expect(patternOf(router, "PATCH", "/a/b")).toBe("OPTIONS POST");
});

test("a literal is found however it is percent-encoded, and %2F is no slash", () => {
  const router = routerOf("GET /a/{x}/c");
  expect(patternOf(router, "GET", "/%61/b/c")).toBe("/a/{x}/c");
  expect(patternOf(router, "GET", "/a/b%2Fc")).toBe("none");
});

test("an encoded literal or verb of a template is found however the path encodes it", () => {
  const router = routerOf("GET /c%2Fd/{x}", "GET /c%C3%A8%20%3A/{x}", "POST /a/{x}:settle", "POST /a/{x}:s%C3%A8");
  expect(patternOf(router, "GET", "/c%2Fd/1")).toBe("/c%2Fd/{x}");
  expect(patternOf(router, "GET", "/c%2fd/1")).toBe("/c%2Fd/{x}");
  expect(patternOf(router, "GET", "/c/d/1")).toBe("none");
  expect(patternOf(router, "GET", "/c%c3%a8%20:/1")).toBe("/c%C3%A8%20%3A/{x}");
  expect(patternOf(router, "POST", "/a/1:s%65ttle")).toBe("/a/{x}:settle");
  expect(patternOf(router, "POST", "/a/1:s%c3%a8")).toBe("/a/{x}:s%C3%A8");
  expect(patternOf(router, "POST", "/a/1%3Asettle")).toBe("none");
});

test("** matches no segment at all", () => {
  const router = routerOf("GET /{x=**}", "GET /a/{x=**}", "POST /{x=**}:run", "POST /b/{x=**}:run");
  const segmentsOf = (httpMethod: string, path: string) => {
    const match = router.match(httpMethod, path);
    return match.kind === "route" ? [match.route.pattern, ...match.segments] : [match.kind];
  };
  expect(segmentsOf("GET", "/")).toEqual(["/{x=**}"]);
  expect(segmentsOf("GET", "/a")).toEqual(["/a/{x=**}", "a"]);
  expect(segmentsOf("POST", "/:run")).toEqual(["/{x=**}:run"]);
  expect(segmentsOf("POST", "/b:run")).toEqual(["/b/{x=**}:run", "b"]);
});

test("a verb is never empty: a colon at the end is part of the value", () => {
  const router = routerOf("DELETE /users/{x}", "POST /users/{x}:run");
  const segmentsOf = (httpMethod: string, path: string) => {
    const match = router.match(httpMethod, path);
    return match.kind === "route" ? match.segments : match.kind;
  };
  expect(segmentsOf("DELETE", "/users/anna:")).toEqual(["users", "anna:"]);
  expect(segmentsOf("DELETE", "/users/anna::")).toEqual(["users", "anna::"]);
  expect(segmentsOf("POST", "/users/anna:run:")).toBe("method");
  expect(segmentsOf("POST", "/users/anna::run")).toEqual(["users", "anna:"]);
});

test.each(["", "/", "//", "/a/", "/a//b", "a"])(
  "the path %j with an empty segment or no leading slash matches no route",
  (path) => {
    expect(patternOf(routerOf("GET /{x}", "GET /a/{x=**}", "GET /a/{x}/{y}"), "GET", path)).toBe("none");
  },
);

test("a verb is recognized when a route has it, and is part of the value otherwise", () => {
  const router = routerOf("POST /a/{x}:run", "POST /a/{x}", "GET /b/{x}");
  expect(patternOf(router, "POST", "/a/1:run")).toBe("/a/{x}:run");
  expect(patternOf(router, "POST", "/a/1:walk")).toBe("/a/{x}");
  expect(patternOf(router, "GET", "/b/1:run")).toBe("/b/{x}");
  const match = router.match("POST", "/a/x:y:run");
  expect(match.kind === "route" && match.segments).toEqual(["a", "x:y"]);
});

test.each([
  [["GET /a/{x}", "GET /a/{y}"]],
  [["GET /a/*", "GET /a/{y}"]],
  [["GET /{x=**}", "GET /**"]],
  [["GET /a:run", "GET /a:run"]],
])("refuses %o, which match the same requests", (routes) => {
  expect(() => routerOf(...routes)).toThrow(/matches the same requests as/);
});

test("a lookup takes as many steps for 10,000 routes as for 10", () => {
  const steps = (routes: number) => {
    const paths = Array.from({ length: routes }, (_, index) => `GET /service_${index}/{x}/items_${index}/{y}`);
    const router = routerOf(...paths);
    const lookUps = vi.spyOn(Map.prototype, "get");
    expect(patternOf(router, "GET", "/service_7/1/items_7/2")).toBe("/service_7/{x}/items_7/{y}");
    const count = lookUps.mock.calls.length;
    lookUps.mockRestore();
    return count;
  };
  expect(steps(10_000)).toBe(steps(10));
});
