import { decodePercent } from "./percent.ts";
import type { Segment } from "./template.ts";

/** What a route is found by, and what it leads to. */
export interface Routable {
  readonly httpMethod: string;
  readonly pattern: string;
  readonly template: { readonly segments: readonly Segment[]; readonly verb: string | undefined };
}

/** The outcome of a look-up. */
export type Match<Route> =
  | { readonly kind: "route"; readonly route: Route; readonly segments: readonly string[] }
  | { readonly kind: "method"; readonly allow: readonly string[] }
  | { readonly kind: "none" };

export interface Router<Route> {
  /** The HTTP methods of all routes, with HEAD and OPTIONS. */
  readonly methods: readonly string[];
  /** @param path the path as it was sent, percent-encoded, without the query */
  match(httpMethod: string, path: string): Match<Route>;
}

interface Node<Route> {
  readonly literals: Map<string, Node<Route>>;
  single: Node<Route> | undefined;
  /** What ends here, by verb ("" is none), then by HTTP method. */
  readonly ends: Map<string, Map<string, Route>>;
  /** What takes all the rest of the path. */
  readonly rests: Map<string, Map<string, Route>>;
}

/**
 * A tree of segments: a look-up visits nodes by the length of the path, however many routes there are.
 * A literal goes before `*`, which goes before `**`. HEAD finds the route of GET, any method that of `*`.
 * @throws Error when two routes would match the same requests
 */
export function createRouter<Route extends Routable>(routes: readonly Route[]): Router<Route> {
  const root = createNode<Route>();
  for (const route of routes) insert(root, route);
  const methods = allowed(new Set(routes.map(({ httpMethod }) => httpMethod).filter((one) => one !== "*")));
  return { methods, match: (httpMethod, path) => matchPath(root, httpMethod, path) };
}

function matchPath<Route>(root: Node<Route>, httpMethod: string, path: string): Match<Route> {
  if (!path.startsWith("/")) return { kind: "none" };
  // The root has no segments at all: only `**` matches it.
  const segments = path === "/" ? [] : path.slice(1).split("/");
  if (segments.includes("")) return { kind: "none" };

  const others = new Set<string>();
  const last = segments.at(-1) ?? "";
  const colon = last.lastIndexOf(":");
  const verb = decodeLiteral(last.slice(colon + 1));
  // A verb only where a route has it, and never an empty one: a colon may just as well be part of a value.
  if (verb !== "" && (colon > 0 || (colon === 0 && segments.length === 1))) {
    const bare = colon === 0 ? [] : [...segments.slice(0, -1), last.slice(0, colon)];
    const route = find(root, { httpMethod, segments: bare, verb, others }, 0);
    if (route !== undefined) return { kind: "route", route, segments: bare };
  }
  const route = find(root, { httpMethod, segments, verb: "", others }, 0);
  if (route !== undefined) return { kind: "route", route, segments };
  return others.size === 0 ? { kind: "none" } : { kind: "method", allow: allowed(others) };
}

interface Wanted {
  readonly httpMethod: string;
  readonly segments: readonly string[];
  readonly verb: string;
  /** Collects the methods of routes that match all but the method. */
  readonly others: Set<string>;
}

function find<Route>(node: Node<Route>, wanted: Wanted, index: number): Route | undefined {
  const segment = wanted.segments[index];
  if (segment === undefined) return take(node.ends, wanted) ?? take(node.rests, wanted);
  const literal = node.literals.get(decodeLiteral(segment));
  return (
    (literal && find(literal, wanted, index + 1)) ??
    (node.single && find(node.single, wanted, index + 1)) ??
    take(node.rests, wanted)
  );
}

function take<Route>(ends: Map<string, Map<string, Route>>, wanted: Wanted): Route | undefined {
  const byMethod = ends.get(wanted.verb);
  if (byMethod === undefined) return undefined;
  const { httpMethod } = wanted;
  const route =
    byMethod.get(httpMethod) ?? (httpMethod === "HEAD" ? byMethod.get("GET") : undefined) ?? byMethod.get("*");
  if (route === undefined) for (const other of byMethod.keys()) wanted.others.add(other);
  return route;
}

function allowed(methods: Set<string>): string[] {
  if (methods.has("GET")) methods.add("HEAD");
  return [...methods.add("OPTIONS")].toSorted();
}

function insert<Route extends Routable>(root: Node<Route>, route: Route): void {
  const { segments, verb = "" } = route.template;
  let node = root;
  let ends = node.ends;
  for (const segment of segments) {
    if (segment.kind === "rest") {
      ends = node.rests;
      break;
    }
    node = childOf(node, segment);
    ends = node.ends;
  }
  const byMethod = ends.get(verb) ?? new Map<string, Route>();
  ends.set(verb, byMethod);
  const other = byMethod.get(route.httpMethod);
  if (other !== undefined) {
    throw new Error(`${route.httpMethod} ${route.pattern} matches the same requests as ${other.pattern}`);
  }
  byMethod.set(route.httpMethod, route);
}

function childOf<Route>(node: Node<Route>, segment: Segment): Node<Route> {
  if (segment.kind !== "literal") {
    node.single ??= createNode();
    return node.single;
  }
  const child = node.literals.get(segment.value) ?? createNode<Route>();
  node.literals.set(segment.value, child);
  return child;
}

function createNode<Route>(): Node<Route> {
  return { literals: new Map(), single: undefined, ends: new Map(), rests: new Map() };
}

function decodeLiteral(segment: string): string {
  return decodePercent(segment) ?? segment;
}
