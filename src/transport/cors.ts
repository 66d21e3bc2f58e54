import { cors } from "@connectrpc/connect";
import type { Request, Response } from "../pipeline/client-origin.ts";
import { tracecodeHeader } from "../pipeline/tracedata.ts";

/** Adds the headers of CORS to a response. Returns whether it has responded: the request was a preflight. */
export type RespondToCors = (request: Request, response: Response) => boolean;

const allowedMethods = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"].join(", ");
const allowedHeaders = [
  ...cors.allowedHeaders,
  "Authorization",
  tracecodeHeader,
  "If-Match",
  "If-None-Match",
  "Range",
  "traceparent",
  "tracestate",
].join(", ");
const exposedHeaders = [
  ...cors.exposedHeaders,
  tracecodeHeader,
  "Accept-Ranges",
  "Allow",
  "Content-Disposition",
  "Content-Range",
  "ETag",
  "RateLimit",
  "RateLimit-Policy",
  "Retry-After",
  "WWW-Authenticate",
].join(", ");
/** Browsers keep the answer to a preflight for two hours at most. */
const maxAgeSeconds = "7200";

/**
 * Lets pages of other origins call the server from a browser. Responds to the preflight of any path, before
 * authentication, because a preflight has no token. Credentials of the browser (cookies) are never allowed: the token is
 * in the Authorization header, which a page must know.
 * @param origins such as `https://app.example.com`; `*` allows all; empty turns CORS off
 */
export function createCors(origins: readonly string[]): RespondToCors {
  if (origins.length === 0) return () => false;
  const allowsAll = origins.includes("*");
  const allowed = new Set(origins);

  return (request, response) => {
    const { origin } = request.headers;
    // A cache must not give the response for one origin to another.
    if (!allowsAll) response.setHeader("vary", "Origin");
    const isPreflight =
      origin !== undefined &&
      request.method === "OPTIONS" &&
      request.headers["access-control-request-method"] !== undefined;
    if (origin !== undefined && (allowsAll || allowed.has(origin))) {
      response.setHeader("access-control-allow-origin", allowsAll ? "*" : origin);
      if (isPreflight) setPreflightHeaders(response);
      else response.setHeader("access-control-expose-headers", exposedHeaders);
    }
    if (!isPreflight) return false;
    response.statusCode = 204;
    response.end();
    return true;
  };
}

function setPreflightHeaders(response: Response): void {
  response.setHeader("access-control-allow-methods", allowedMethods);
  response.setHeader("access-control-allow-headers", allowedHeaders);
  response.setHeader("access-control-max-age", maxAgeSeconds);
}
