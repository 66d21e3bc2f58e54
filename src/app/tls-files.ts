import { readFile } from "node:fs/promises";
import { createSecureContext } from "node:tls";
import type { Logger } from "pino";
import type { Config } from "../config.ts";
import type { KeyPair } from "../transport/listener.ts";

type TlsFiles = { readonly [Name in keyof KeyPair]: string };

/** How often the files are read. Their contents are compared, because Kubernetes replaces them through links. */
const readEveryMs = 1000;

/**
 * Reads the files of TLS_CERT and TLS_KEY. Returns undefined without TLS.
 * @throws Node's error when a file is missing, or when the certificate is invalid or does not match the key
 */
export async function readTlsFiles(config: Config): Promise<TlsFiles | undefined> {
  if (config.TLS_CERT === "") return undefined;
  const files = await readBoth(config);
  createSecureContext(files);
  return files;
}

export interface FollowOptions {
  /** The pair in use. */
  readonly first: TlsFiles;
  readonly replace: (pair: KeyPair) => void;
  readonly logger: Logger;
}

/**
 * Replaces the certificate when its files change. An invalid pair is logged once, and the old pair stays in use.
 * @returns a function that ends it
 */
export function followTlsFiles(config: Config, { first, replace, logger }: FollowOptions): () => void {
  let handled = first;
  let last = first;
  const read = async () => {
    // A file that is missing for a moment is being replaced.
    const files = await readBoth(config).catch(() => last);
    // The two files do not change at once. They count when two reads agree.
    const isSettled = isSame(files, last);
    last = files;
    if (!isSettled || isSame(files, handled)) return;
    handled = files;
    try {
      createSecureContext(files);
      replace(files);
      logger.info("tls certificate replaced");
    } catch (error) {
      logger.error({ err: error }, "tls certificate not replaced: the new files are not a valid pair");
    }
  };
  const timer = setInterval(() => void read(), readEveryMs).unref();
  return () => clearInterval(timer);
}

async function readBoth({ TLS_CERT, TLS_KEY }: Config): Promise<TlsFiles> {
  const [cert, key] = await Promise.all([readFile(TLS_CERT, "utf8"), readFile(TLS_KEY, "utf8")]);
  return { cert, key };
}

function isSame(one: TlsFiles, other: TlsFiles): boolean {
  return one.cert === other.cert && one.key === other.key;
}
