import { Code, ConnectError, type Interceptor } from "@connectrpc/connect";
import type { CallCounts } from "../pipeline/call-counts.ts";

/** Counts the calls of services that do not pass the pipeline: health and reflection. */
export function createCallCounter(calls: CallCounts, protocolOf: (contentType?: string) => string): Interceptor {
  return (next) => async (request) => {
    const startedMs = performance.now();
    const protocol = protocolOf(request.header.get("content-type") ?? undefined);
    const end = (code: number) => calls.count(request.method, protocol, code, startedMs);
    try {
      const response = await next(request);
      if (response.stream) return { ...response, message: countAtEnd(response.message, end) };
      end(0);
      return response;
    } catch (error) {
      end(codeOf(error));
      throw error;
    }
  };
}

async function* countAtEnd<Message>(messages: AsyncIterable<Message>, end: (code: number) => void) {
  // A caller that leaves ends the iteration without an error.
  let code: number = Code.Canceled;
  try {
    yield* messages;
    code = 0;
  } catch (error) {
    code = codeOf(error);
    throw error;
  } finally {
    end(code);
  }
}

function codeOf(error: unknown): Code {
  return ConnectError.from(error).code;
}
