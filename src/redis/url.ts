export interface RedisAddress {
  readonly kind: "single" | "cluster" | "sentinel";
  readonly hosts: readonly { readonly host: string; readonly port: number }[];
  readonly username: string;
  readonly password: string;
  readonly hasTls: boolean;
  /** Of a single server: the number of the database. Of Sentinels: the name of the master. */
  readonly path: string;
}

const pattern = /^(rediss?)(?:\+(cluster|sentinel))?:\/\/(?:([^@/:]*)(?::([^@/]*))?@)?([^@/]+)(?:\/(\w*))?$/;
const hostPattern = /^(?:\[([\da-f:.]+)\]|([^\s:[\]]+))(?::(\d{1,5}))?$/i;

/**
 * `redis://user:password@host:port/number`, `rediss://` with TLS; `redis+cluster://` with some hosts of a Cluster,
 * commas between them, of which the others are learnt; `redis+sentinel://` with the hosts of Sentinels, and the name of
 * the master after the slash.
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
  return {
    kind: kind as RedisAddress["kind"],
    hosts: addresses,
    username: decodeURIComponent(username),
    password: decodeURIComponent(password),
    hasTls: scheme === "rediss",
    path,
  };
}

function toAddress(text: string, defaultPort: number) {
  const [match, address, name, port = defaultPort] = hostPattern.exec(text) ?? [];
  return match === undefined ? undefined : { host: address ?? name ?? "", port: Number(port) };
}
