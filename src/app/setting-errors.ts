import { ConfigError } from "../config.ts";

/**
 * Awaits work that depends on settings, such as a connection to the address in one.
 * @throws ConfigError that names the settings, when the work fails
 */
export async function withSettingNames<Result>(settings: string, work: PromiseLike<Result>): Promise<Result> {
  try {
    return await work;
  } catch (error) {
    // When Node has tried several addresses, the first error has the text.
    const cause: unknown = error instanceof AggregateError ? error.errors[0] : error;
    throw new ConfigError(`${settings}: ${cause instanceof Error ? cause.message : String(cause)}`);
  }
}
