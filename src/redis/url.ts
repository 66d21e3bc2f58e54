export interface RedisAddress {
  readonly kind: "single" | "cluster" | "sentinel";
  readonly hosts: readonly { readonly host: string; readonly port: number }[];
  readonly username: string;
  readonly password: string;
  readonly hasTls: boolean;
  /** Of a single server: the number of the database. Of Sentinels: the name of the master. */
  readonly path: string;
}

const pattern = /^(rediss?)(?:\+(cluster|sentinel))?:\/\/(?:([^@/:]*)(?::([^@/]*))?@)?([^@/]+)(?:\/([\w.-]*))?$/;
const hostPattern = /^(?:\[([\da-f:.]+)\]|([^\s:[\]]+))(?::(\d{1,5}))?$/i;

/**
 * `redis://user:password@host:port/number`, `rediss://` with TLS; `redis+cluster://` with some hosts of a Cluster,
 * commas between them, of which the others are learnt; `redis+sentinel://` with the hosts of Sentinels, and the name of
 * the master (letters, digits, `.`, `-` and `_`) after the slash. A name or a password may be percent-encoded.
 * @returns undefined for what is none of them
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

/** A percent sign that begins no code stands for itself. Undefined for what is not UTF-8. */
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
