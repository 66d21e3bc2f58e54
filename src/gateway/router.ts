import { decodePercent, type Segment } from "./template.ts";

/** The part of a route that requests are matched with. */
export interface Routable {
  readonly httpMethod: string;
  readonly pattern: string;
  readonly template: { readonly segments: readonly Segment[]; readonly verb: string | undefined };
}

/** The result of a look-up. `method`: the path exists with other methods. */
export type Match<Route> =
  | { readonly kind: "route"; readonly route: Route; readonly segments: readonly string[] }
  | { readonly kind: "method"; readonly allow: readonly string[] }
  | { readonly kind: "none" };

export interface Router<Route> {
  /** The HTTP methods of all routes, including HEAD and OPTIONS. */
  readonly methods: readonly string[];
  /** @param path percent-encoded, without the query */
  match(httpMethod: string, path: string): Match<Route>;
}

interface Node<Route> {
  readonly literals: Map<string, Node<Route>>;
  single: Node<Route> | undefined;
  /** Routes that end at this node, by verb ("": none), then by HTTP method. */
  readonly ends: Map<string, Map<string, Route>>;
  /** Routes that match the rest of the path, by verb and HTTP method. */
  readonly rests: Map<string, Map<string, Route>>;
}

/**
 * Creates a tree of segments: the cost of a look-up depends on the path's length, not on the number of routes. A literal
 * has precedence over `*`, and `*` over `**`. HEAD matches routes of GET. Method `*` matches any method.
 * @throws Error when two routes match the same requests
 */
export function createRouter<Route extends Routable>(routes: readonly Route[]): Router<Route> {
  const root = createNode<Route>();
  for (const route of routes) insert(root, route);
  const methods = allowed(new Set(routes.map(({ httpMethod }) => httpMethod).filter((method) => method !== "*")));
  return { methods, match: (httpMethod, path) => matchPath(root, httpMethod, path) };
}

function matchPath<Route>(root: Node<Route>, httpMethod: string, path: string): Match<Route> {
  if (!path.startsWith("/")) return { kind: "none" };
  // The root has no segments: only `**` matches it.
  const segments = path === "/" ? [] : path.slice(1).split("/");
  if (segments.includes("")) return { kind: "none" };

  const others = new Set<string>();
  const last = segments.at(-1) ?? "";
  const colon = last.lastIndexOf(":");
  const verb = decodeLiteral(last.slice(colon + 1));
  // The text after the last colon is a verb only if a route has that verb. Otherwise it is part of a value.
  if (verb !== "" && (colon > 0 || (colon === 0 && segments.length === 1))) {
    const bare = colon === 0 ? [] : [...segments.slice(0, -1), last.slice(0, colon)];
    const route = find(root, { httpMethod, segments: bare, verb, others }, 0);
    if (route !== undefined) return { kind: "route", route, segments: bare };
  }
  const route = find(root, { httpMethod, segments, verb: "", others }, 0);
  if (route !== undefined) return { kind: "route", route, segments };
  return others.size === 0 ? { kind: "none" } : { kind: "method", allow: allowed(others) };
}

interface Lookup {
  readonly httpMethod: string;
  readonly segments: readonly string[];
  readonly verb: string;
  /** Collects the methods of routes that match except for the method. */
  readonly others: Set<string>;
}

function find<Route>(node: Node<Route>, lookup: Lookup, index: number): Route | undefined {
  const segment = lookup.segments[index];
  if (segment === undefined) return take(node.ends, lookup) ?? take(node.rests, lookup);
  const literal = node.literals.get(decodeLiteral(segment));
  return (
    (literal && find(literal, lookup, index + 1)) ??
    (node.single && find(node.single, lookup, index + 1)) ??
    take(node.rests, lookup)
  );
}

function take<Route>(ends: Map<string, Map<string, Route>>, lookup: Lookup): Route | undefined {
  const byMethod = ends.get(lookup.verb);
  if (byMethod === undefined) return undefined;
  const { httpMethod } = lookup;
  const route =
    byMethod.get(httpMethod) ?? (httpMethod === "HEAD" ? byMethod.get("GET") : undefined) ?? byMethod.get("*");
  if (route === undefined) for (const other of byMethod.keys()) lookup.others.add(other);
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
