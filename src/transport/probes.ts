import type { Request, Response } from "../pipeline/client-origin.ts";

/** The response to GET /. */
const index = JSON.stringify({
  service: "tollgate",
  documentation: "/admin/file/admin_en.html",
  openapi: "/admin/file/openapi.yaml",
  health: "/admin/system/check",
  live: "/livez",
  ready: "/readyz",
});
const up = JSON.stringify({ status: "ok" });
const draining = JSON.stringify({ status: "draining" });

/**
 * Responds to GET and HEAD of /, /livez (the process runs) and /readyz (it takes calls). Returns whether it has
 * responded. Probes ask no dependency: decisions continue without PostgreSQL, so its outage must not stop the pods.
 */
export function respondToProbe(request: Request, response: Response, { isReady }: { isReady: boolean }): boolean {
  if (request.method !== "GET" && request.method !== "HEAD") return false;
  const body = bodyOf(request.url ?? "", isReady);
  if (body === undefined) return false;
  response.statusCode = body === draining ? 503 : 200;
  response.setHeader("content-type", "application/json");
  response.end(body);
  return true;
}

function bodyOf(url: string, isReady: boolean): string | undefined {
  switch (url) {
    case "/":
      return index;
    case "/livez":
      return up;
    case "/readyz":
      return isReady ? up : draining;
    default:
      return undefined;
  }
}
