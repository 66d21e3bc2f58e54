export interface RedisAddress {
  readonly kind: "single" | "cluster" | "sentinel";
  readonly hosts: readonly { readonly host: string; readonly port: number }[];
  readonly username: string;
  readonly password: string;
  readonly hasTls: boolean;
  /** The database number of a single server, or the master name of Sentinels. */
  readonly path: string;
}

const pattern = /^(rediss?)(?:\+(cluster|sentinel))?:\/\/(?:([^@/:]*)(?::([^@/]*))?@)?([^@/]+)(?:\/([\w.-]*))?$/;
const hostPattern = /^(?:\[([\da-f:.]+)\]|([^\s:[\]]+))(?::(\d{1,5}))?$/i;

/**
 * Parses an address of Redis. `rediss` instead of `redis` means TLS. A name or a password may be percent-encoded.
 * - `redis://user:password@host:port/number`
 * - `redis+cluster://host,host`: some hosts of a Cluster, which names the others
 * - `redis+sentinel://host,host/master`: the Sentinels, and the name of the master (letters, digits, `.`, `-` and `_`)
 * @returns undefined when the text has none of these forms
 */
export function parseRedisUrl(url: string): RedisAddress | undefined {
  const [match, scheme, kind = "single", username = "", password = "", hosts = "", path = ""] = pattern.exec(url) ?? [];
  if (match === undefined) return undefined;
  const port = kind === "sentinel" ? 26379 : 6379;
  const addresses = hosts.split(",").map((address) => toAddress(address, port));
  if (!addresses.every((address) => address !== undefined)) return undefined;
  if (kind === "single" && (addresses.length > 1 || !/^\d*$/.test(path))) return undefined;
  if (kind === "cluster" && path !== "") return undefined;
  if (kind === "sentinel" && path === "") return undefined;
  const [name, secret] = [decode(username), decode(password)];
  if (name === undefined || secret === undefined) return undefined;
  return {
    kind: kind as RedisAddress["kind"],
    hosts: addresses,
    username: name,
    password: secret,
    hasTls: scheme === "rediss",
    path,
  };
}

/** Decodes percent-encoding. Keeps a percent sign without a code. Returns undefined when the text is not UTF-8. */
function decode(text: string): string | undefined {
  try {
    return decodeURIComponent(text.replace(/%(?![\da-f]{2})/gi, "%25"));
  } catch {
    return undefined;
  }
}

function toAddress(text: string, defaultPort: number) {
  const [match, address, name, port = defaultPort] = hostPattern.exec(text) ?? [];
  return match === undefined || Number(port) > 65_535 ? undefined : { host: address ?? name ?? "", port: Number(port) };
}
