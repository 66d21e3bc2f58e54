import type { DescMethod } from "@bufbuild/protobuf";
import { Code, ConnectError, type ContextValues, type HandlerContext } from "@connectrpc/connect";
import type { GatewayRequest, GatewayResponse } from "./gateway.ts";

/** A call's context as Connect's handlers know it, without the cost of Connect's own. */
export interface GatewayContext extends HandlerContext {
  /** The call has its answer: its deadline no longer counts, and the caller may go. */
  end(): void;
}

export function createContext(
  method: DescMethod,
  request: GatewayRequest,
  response: GatewayResponse,
  values: ContextValues,
  protocolName = "http",
): GatewayContext {
  const controller = new AbortController();
  const deadline = deadlineOf(request);
  const timer =
    deadline === undefined
      ? undefined
      : setTimeout(
          () => controller.abort(new ConnectError("the deadline has passed", Code.DeadlineExceeded)),
          deadline - Date.now(),
        );
  let ended = false;
  response.once("close", () => {
    // Every call ends here: an error with a stack is made only for the few that are cut off.
    controller.abort(ended ? over : new ConnectError("the caller is gone", Code.Canceled));
  });
  let requestHeader: Headers | undefined;
  let responseTrailer: Headers | undefined;
  return {
    method,
    service: method.parent,
    signal: controller.signal,
    timeoutMs: () => (deadline === undefined ? undefined : Math.max(0, deadline - Date.now())),
    requestMethod: request.method ?? "",
    get requestHeader() {
      requestHeader ??= toHeaders(request);
      return requestHeader;
    },
    responseHeader: new Headers(),
    get responseTrailer() {
      responseTrailer ??= new Headers();
      return responseTrailer;
    },
    protocolName,
    values,
    url: request.url ?? "",
    end() {
      ended = true;
      clearTimeout(timer);
    },
  };
}

const over = new Error("the call is over");

/** The header of Connect's protocol, in milliseconds; honoured here too. */
function deadlineOf({ headers }: GatewayRequest): number | undefined {
  const text = headers["connect-timeout-ms"];
  return typeof text === "string" && /^\d{1,10}$/.test(text)
    ? Date.now() + Math.min(Number(text), 0x7fffffff)
    : undefined;
}

function toHeaders({ headers }: GatewayRequest): Headers {
  const result = new Headers();
  for (const [name, value] of Object.entries(headers)) {
    // HTTP/2 lists its pseudo-headers too.
    if (value === undefined || name.startsWith(":")) continue;
    for (const one of [value].flat()) result.append(name, one);
  }
  return result;
}
